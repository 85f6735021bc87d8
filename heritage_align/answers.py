"""What an index that wraps another engine returns: full, in order, and each query's for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TIES = 8
"""How many times k answers are asked for, at most, until the last one scores less than those that are returned."""


def settled_answers(
    ask: Callable[[Tensor, int, int], tuple[Tensor, Tensor]], queries: Tensor, k: int, count: int
) -> tuple[Tensor, Tensor]:
    """Ask an engine until every query has its answers, and put equal scores in the order of their rows.

    A query that finds fewer than k is asked again with twice the effort. One whose last score goes on beyond k is asked
    for more, so that among up to `TIES` times k answers the lowest rows are returned. What others are asked with it
    does not matter.

    Args:
        ask: called with queries, k and an effort of 1, 2, 4 and so on; returns int64 rows, -1 for none, and fp32
            scores, both ``(n_queries, k)``, best first. With effort enough it must find what is asked.
        queries: ``(n_queries, dim)``.
        k: answers a query.
        count: vectors that there are.

    Returns:
        int64 rows and fp32 scores ``(n_queries, min(k, count))``.

    Raises:
        ValueError: k below 1, queries that are no matrix or not finite.
    """
    import torch

    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    if queries.ndim != 2:
        raise ValueError(f"queries: expected (n_queries, dim), got {tuple(queries.shape)}")
    if not bool(torch.isfinite(queries).all()):
        raise ValueError("queries: hold NaN or infinity, which would make any order of the answers")
    width = min(k, count)
    rows = torch.empty(len(queries), width, dtype=torch.int64)
    scores = torch.empty(len(queries), width)
    waiting = [(torch.arange(len(queries)), min(width + 1, count), 1)] if width else []
    while waiting:
        places, asked, effort = waiting.pop()
        if not len(places):
            continue
        found, values = ask(queries[places], asked, effort)
        short = (found[:, :width] < 0).any(1)
        tied = (values[:, width - 1] == values[:, -1]) & (asked < min(count, TIES * width)) & ~short
        done = ~(short | tied)
        rows[places[done]], scores[places[done]] = _in_order(found[done], values[done], width)
        waiting += [(places[short], asked, effort * 2), (places[tied], min(count, asked * 2), effort)]
    return rows, scores


def _in_order(rows: Tensor, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best, equal scores by ascending row; rows of -1 come last."""
    rows, order = rows.where(rows >= 0, 2**62).sort(dim=1)
    scores, best = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    return rows.gather(1, best)[:, :k], scores[:, :k]

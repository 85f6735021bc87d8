"""Rescore given candidates with the full similarity."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch

from heritage_align.errors import DataError
from heritage_align.pipeline import Pipeline
from heritage_align.search.candidates import order_of, score_candidates
from heritage_align.store import Store
from heritage_align.types import Hit, Run, TextItem


def rerank(pipeline: Pipeline, store: Store, run: Run, items: Sequence[TextItem] | Mapping[str, TextItem]) -> Run:
    """Rescore every query's candidates of a run, for example one that was read from TREC.

    Args:
        pipeline: its similarity gives the new scores.
        store: features of the candidates.
        run: candidates; equal new scores keep their order.
        items: the queries of the run, by id or in any order.

    Raises:
        DataError: a query of the run has no text, or a candidate occurs twice.
        StoreError: a candidate is not in the store.
    """
    texts = dict(items) if isinstance(items, Mapping) else {item.id: item for item in items}
    unknown = [query for query in run.query_ids if query not in texts]
    if unknown:
        raise DataError(
            f"rerank: {len(unknown)} of {len(run.query_ids)} queries of the run have no text, "
            f"the first: {', '.join(map(repr, unknown[:3]))}"
        )
    for query, candidates in zip(run.query_ids, run.ids):
        if len(set(candidates)) != len(candidates):
            raise DataError(f"rerank: query {query!r} has a candidate twice")
    if not run.query_ids:
        return run
    start = time.perf_counter()
    depth = max(len(candidates) for candidates in run.ids)
    rows = torch.full((len(run.query_ids), depth), -1, dtype=torch.int64)
    for line, candidates in enumerate(run.ids):
        rows[line, : len(candidates)] = torch.tensor([store.row(i) for i in candidates], dtype=torch.int64)
    features = pipeline.encode_texts([texts[query] for query in run.query_ids])
    rows, scores = order_of(score_candidates(pipeline, store, features, rows), rows, depth)
    # Missing candidates score -inf and so come last; every line is cut to its own length.
    lengths = [len(candidates) for candidates in run.ids]
    ids = [[store.ids[row] for row in line[:n]] for line, n in zip(rows.tolist(), lengths)]
    values = [line[:n] for line, n in zip(scores.tolist(), lengths)]
    pipeline.finished("rerank", len(run.query_ids), time.perf_counter() - start)
    return Run(run.query_ids, ids, values, tag=pipeline.config.name)


def rank(
    pipeline: Pipeline, store: Store, query: str | TextItem, candidates: Sequence[str], top_k: int | None = None
) -> list[Hit]:
    """Rank candidate images for one query, best first; ties keep the order of the candidates.

    Args:
        query: a text, or an item with annotated phrases.
        candidates: image ids of the store.
        top_k: how many to return; all by default.

    Example:
        >>> rank(pipeline, store, "蓝地缠枝莲纹", ["a.jpg", "b.jpg"])[0].id  # doctest: +SKIP
        'b.jpg'

    Raises:
        DataError: the query is blank, a candidate occurs twice, or `top_k` is below 1.
        StoreError: a candidate is not in the store.
    """
    if top_k is not None and top_k < 1:
        raise DataError(f"rank: top_k is {top_k}, expected at least 1")
    item = query if isinstance(query, TextItem) else TextItem("query", query)
    if not candidates:
        return []
    ranked = rerank(pipeline, store, Run((item.id,), [list(candidates)], [[0.0] * len(candidates)]), [item])
    return ranked.hits(item.id)[:top_k]

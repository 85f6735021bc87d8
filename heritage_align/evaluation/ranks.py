"""The rank of the first right answer to every query: all that recall and rank statistics need.

**Ties.** Equal scores keep the order of the candidates (the rows of the score matrix). A
right answer therefore profits from a tie with a wrong one exactly when it stands before it, which a candidate
order that does not know the answers (file order, id order) cannot arrange: a constant score gets the recall
of chance. Implementations that count only strictly better candidates would give it 100 %. How many queries
depend on the rule is counted (`Ranks.tied`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor


Scores: TypeAlias = "npt.NDArray[np.floating[Any]] | Tensor"
BLOCK_BYTES = 32 * 2**20
"""Scores compared at once, in bytes: beyond a few MiB larger blocks are not faster, only larger."""


@dataclass(frozen=True)
class Ranks:
    """First right answers of one direction.

    Attributes:
        query_ids: queries that have a right answer, ``n_queries``.
        first: ``(n_queries,)`` float64, the rank from 1 of the first right answer; inf where no right answer
            is among the candidates.
        tied: queries in which a wrong candidate has the score of the best right one, so that the rank is a
            matter of the candidates' order.
        skipped: queries left out because nothing is a right answer to them.
    """

    query_ids: tuple[str, ...]
    first: npt.NDArray[np.float64]
    tied: int = 0
    skipped: int = 0

    def hits(self, k: int) -> npt.NDArray[np.float64]:
        """Return ``(n_queries,)``, 1 where a right answer is among the first `k`, else 0."""
        return (self.first <= k).astype(np.float64)


def ranks_from_scores(scores: Scores, answers: Sequence[Sequence[int]], query_ids: Sequence[str]) -> Ranks:
    """Rank every candidate for every query and find the first right answer.

    The rank is 1 + the candidates with a higher score than the best right answer + those with an equal score
    before it. Works block by block and sorts nothing: ``O(n_queries * n_candidates)`` comparisons, memory
    bounded by `BLOCK_BYTES`.

    Args:
        scores: ``(n_queries, n_candidates)``, higher is better; numpy or torch on any device. -inf is a score
            (an image without regions), NaN is none.
        answers: for every query the columns that are right answers, -1 for one that is not among the
            candidates; none at all leaves the query out.
        query_ids: ``n_queries``.

    Raises:
        ValueError: shapes that do not fit, a column out of range, or NaN.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores: expected (n_queries, n_candidates), got shape {tuple(scores.shape)}")
    n_queries, n_candidates = scores.shape
    if len(answers) != n_queries or len(query_ids) != n_queries:
        raise ValueError(f"scores have {n_queries} queries, answers {len(answers)} and query_ids {len(query_ids)}")
    first = np.full(n_queries, np.nan)
    tied = 0
    step = max(1, BLOCK_BYTES // (8 * max(1, n_candidates)))
    for begin in range(0, n_queries, step):
        block = _as_numpy(scores[begin : begin + step])
        _refuse_nan(block, begin)
        for offset, row in enumerate(block):
            right = np.asarray(answers[begin + offset], dtype=np.int64)
            if not len(right):
                continue
            if right.min() < -1 or right.max() >= n_candidates:
                raise ValueError(
                    f"answers[{begin + offset}]: {right.tolist()} leaves the {n_candidates} candidates' range"
                )
            right = np.unique(right[right >= 0])
            if not len(right):
                first[begin + offset] = np.inf
                continue
            best = row[right].max()
            position = right[row[right] == best].min()
            equal = row == best
            first[begin + offset] = 1 + np.count_nonzero(row > best) + np.count_nonzero(equal[:position])
            tied += int(np.count_nonzero(equal) > np.count_nonzero(equal[right]))
    judged = ~np.isnan(first)
    return Ranks(
        query_ids=tuple(q for q, keep in zip(query_ids, judged) if keep),
        first=first[judged],
        tied=tied,
        skipped=int(n_queries - np.count_nonzero(judged)),
    )


def _as_numpy(block: Scores) -> npt.NDArray[np.floating[Any]]:
    """Return a block in C order; half precision is widened, which changes no comparison."""
    if isinstance(block, np.ndarray):
        return np.ascontiguousarray(block)
    block = block.detach()
    wide = block.float() if block.element_size() < 4 else block
    array: npt.NDArray[np.floating[Any]] = np.ascontiguousarray(wide.cpu().numpy())
    return array


def _refuse_nan(block: npt.NDArray[np.floating[Any]], begin: int) -> None:
    bad = np.isnan(block)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"scores: {np.count_nonzero(bad)} NaN in queries {begin} to {begin + len(block) - 1}, "
            f"the first at query {begin + row}, candidate {column}"
        )

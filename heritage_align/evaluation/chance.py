"""The recall that a random order has, without which a recall on a small golden set says little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from heritage_align.errors import DataError
from heritage_align.evaluation.metrics import KS


def chance_recall(answers: npt.ArrayLike, n_candidates: int, ks: Sequence[int] = KS) -> dict[int, float]:
    """Return the expected Recall@K, in percent, of a random order of the candidates, exactly.

    A query with r right answers among n candidates misses the first K with probability
    ``C(n - r, K) / C(n, K) = prod_(j < K) (n - r - j) / (n - j)``.

    Args:
        answers: ``(n_queries,)`` numbers of right answers; queries with none are left out, as in recall.
        n_candidates: of every query.
        ks: the cut-offs.

    Raises:
        DataError: no query has a right answer, or one has more than there are candidates.
    """
    counts = np.asarray(answers, dtype=np.float64)
    counts = counts[counts > 0]
    if not len(counts):
        raise DataError("no query has a right answer: there is no level of chance")
    if counts.max() > n_candidates:
        raise DataError(f"a query has {int(counts.max())} right answers among {n_candidates} candidates")
    levels = {}
    for k in ks:
        drawn = np.arange(min(k, n_candidates))[:, None]
        missed = np.maximum(n_candidates - counts - drawn, 0) / (n_candidates - drawn)
        levels[k] = 100 * float(np.mean(1 - missed.prod(axis=0)))
    return levels

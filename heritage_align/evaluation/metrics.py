"""Recall@K in both directions, mean recall, rsum, median and mean rank.

Definitions: a query is a hit at K if ANY of its right answers is among the first K, and Recall@K is the
percentage of hits among the queries that have a right answer (Chinese-CLIP, Yang et al. 2022). MR is the mean
of all recalls in the table, rsum their sum over both directions; the median rank is ``floor(median of ranks
from 0) + 1`` (VSE++, SCAN). Direction ``t2i`` searches images by text, ``i2t`` texts by image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heritage_align.evaluation.ranks import Ranks, Scores, ranks_from_scores
from heritage_align.types import TextItem

KS = (1, 5, 10)


@dataclass(frozen=True)
class RetrievalResult:
    """The numbers of one direction.

    Attributes:
        ranks: first right answers.
        ks: the cut-offs, ascending.
    """

    ranks: Ranks
    ks: tuple[int, ...] = KS

    @property
    def recall(self) -> dict[int, float]:
        """K -> percentage of queries with a right answer among the first K."""
        return {k: 100 * float(self.ranks.hits(k).mean()) for k in self.ks}

    @property
    def mean_recall(self) -> float:
        """Mean of the recalls, in percent."""
        return float(np.mean(list(self.recall.values())))

    @property
    def median_rank(self) -> float | None:
        """``floor(median of ranks from 0) + 1``; None where half of the lists or more end before a right
        answer."""
        median = np.floor(np.median(self.ranks.first - 1)) + 1
        return float(median) if np.isfinite(median) else None

    @property
    def mean_rank(self) -> float | None:
        """Mean rank from 1; None where any list ends before a right answer."""
        mean = self.ranks.first.mean()
        return float(mean) if np.isfinite(mean) else None

    def asdict(self) -> dict[str, Any]:
        """Return the numbers, JSON-ready."""
        return {
            **{f"R@{k}": value for k, value in self.recall.items()},
            "mean_recall": self.mean_recall,
            "median_rank": self.median_rank,
            "mean_rank": self.mean_rank,
            "queries": len(self.ranks.query_ids),
            "unanswered": int(np.isinf(self.ranks.first).sum()),
            "skipped": self.ranks.skipped,
            "tied": self.ranks.tied,
        }


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation says of one system; at least one direction is there.

    Attributes:
        system: its name, the row of a table.
        t2i: images searched by text, or None (MUGE has no other direction than this one).
        i2t: texts searched by image, or None.
    """

    system: str
    t2i: RetrievalResult | None = None
    i2t: RetrievalResult | None = None

    def __post_init__(self) -> None:
        if not self.directions:
            raise ValueError("at least one direction is needed, t2i or i2t")

    @property
    def directions(self) -> dict[str, RetrievalResult]:
        """The directions that are there, ``t2i`` first."""
        pairs = {"t2i": self.t2i, "i2t": self.i2t}
        return {name: direction for name, direction in pairs.items() if direction is not None}

    @property
    def mean_recall(self) -> float:
        """Mean of all recalls, in percent: of six in both directions, of three in one."""
        return float(np.mean([value for d in self.directions.values() for value in d.recall.values()]))

    @property
    def rsum(self) -> float | None:
        """Sum of the recalls of both directions, in percent; None where one is missing."""
        if len(self.directions) < 2:
            return None
        return sum(value for d in self.directions.values() for value in d.recall.values())

    def asdict(self) -> dict[str, Any]:
        """Return the numbers, JSON-ready, for ``metrics.json``; ranks of single queries are not among
        them."""
        return {
            "system": self.system,
            "mean_recall": self.mean_recall,
            "rsum": self.rsum,
            **{name: direction.asdict() for name, direction in self.directions.items()},
        }


def evaluate_scores(
    scores: Scores,
    image_ids: Sequence[str],
    texts: Sequence[TextItem],
    *,
    ks: Sequence[int] = KS,
    system: str = "heritage_align",
    t2i_scores: Scores | None = None,
) -> EvaluationResult:
    """Evaluate a full score matrix in both directions.

    Args:
        scores: ``(n_images, n_texts)``, higher is better; numpy or torch.
        image_ids: ids of the rows.
        texts: the columns. Images that they name and `image_ids` lacks (pictures that could not be read)
            count as missed, as answers and as queries: a score must not rise because of a lost picture.
        ks: the cut-offs.
        system: the name of the row.
        t2i_scores: as `scores`, where images searched by text are ranked by others (after a last look).

    Raises:
        ValueError: shapes that do not fit, NaN, cut-offs below 1, or no text with a right answer.
    """
    if scores.ndim != 2 or tuple(scores.shape) != (len(image_ids), len(texts)):
        raise ValueError(
            f"scores: expected (n_images, n_texts) = ({len(image_ids)}, {len(texts)}), got {tuple(scores.shape)}"
        )
    rows = {image_id: row for row, image_id in enumerate(image_ids)}
    if len(rows) != len(image_ids):
        raise ValueError("image_ids: an id occurs twice")
    to_images = [[rows.get(image_id, -1) for image_id in item.image_ids] for item in texts]
    to_texts: list[list[int]] = [[] for _ in image_ids]
    for column, right in enumerate(to_images):
        for row in right:
            if row >= 0:
                to_texts[row].append(column)
    lost = dict.fromkeys(image_id for item in texts for image_id in item.image_ids if image_id not in rows)
    by_text = scores if t2i_scores is None else t2i_scores
    t2i = ranks_from_scores(by_text.T, to_images, [item.id for item in texts])
    i2t = ranks_from_scores(scores, to_texts, image_ids)
    i2t = replace(
        i2t,
        query_ids=(*i2t.query_ids, *lost),
        first=np.concatenate([i2t.first, np.full(len(lost), np.inf)]),
    )
    return EvaluationResult(system, _direction(t2i, ks), _direction(i2t, ks))


def _direction(ranks: Ranks, ks: Sequence[int]) -> RetrievalResult:
    if not ks or any(k < 1 for k in ks) or list(ks) != sorted(set(ks)):
        raise ValueError(f"ks: expected ascending cut-offs from 1, got {list(ks)}")
    if not len(ranks.first):
        raise ValueError("no query has a right answer: there is nothing to evaluate")
    return RetrievalResult(ranks, tuple(ks))

"""The nouns: what flows through a pipeline. Tensors are torch tensors; importing this module does not import torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from heritage_align.ops.ragged import Ragged

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
"""A numpy array of a floating type."""


@dataclass(frozen=True)
class TextItem:
    """A caption or query.

    Attributes:
        id: unique among the texts of a data set.
        text: the sentence.
        image_ids: the images that it is a right answer for.
        phrases: annotated noun phrases, in order; empty where the data set has none.
        language: ``"zh"``, ``"en"`` or None where unknown.
    """

    id: str
    text: str
    image_ids: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    language: str | None = None


@dataclass(frozen=True)
class GoldenPair:
    """An annotated region of an image and the phrases that name it.

    Attributes:
        image_id: the full picture.
        box: ``(x0, y0, x1, y1)`` in pixels of the upright picture.
        phrases: one or more phrases for this region.
    """

    image_id: str
    box: tuple[float, float, float, float]
    phrases: tuple[str, ...]


class Match(NamedTuple):
    """How much of a detail a picture shows, and where (`DetailReranker.compare`).

    Attributes:
        score: higher is better, 0 where nothing was found; comparable among the pictures of one detail.
        box: ``(x0, y0, x1, y1)`` in pixels of the picture, cut at its edges; None where nothing was found.
    """

    score: float
    box: tuple[float, float, float, float] | None


@dataclass
class Regions:
    """Regions of one image.

    Attributes:
        boxes: ``(n_regions, 4)`` float32, xyxy in pixels of the upright image, clipped to it and never empty.
        scores: ``(n_regions,)`` float32 objectness, or None where the proposer has none.
        keep: ``(n_regions,)`` bool, False for a region that a filter masked; None means all are kept.
        grid: ``(rows, columns)`` where the regions are the encoder's own patches in row-major order (they are
            then encoded in the forward pass of the whole image, not as crops).
        features: ``(n_regions, feature_dim)`` float32 where the proposer computes or reads the regions' features
            (a detector's pooled features); an encoder that takes features projects them, and no crop is made.
        global_feature: ``(feature_dim,)`` float32 of the whole image, there wherever `features` is.
    """

    boxes: FloatArray
    scores: FloatArray | None = None
    keep: np.ndarray[Any, np.dtype[np.bool_]] | None = None
    grid: tuple[int, int] | None = None
    features: FloatArray | None = None
    global_feature: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass
class ImageFeatures:
    """Features of a batch of images.

    Attributes:
        ids: ``n_images`` image ids.
        global_features: ``(n_images, dim)``, rows of unit length.
        regions: Ragged, ``values (total_regions, dim)`` of unit length, one run of rows an image; or None.
        boxes: ``(total_regions, 4)`` float32 xyxy as fractions of width and height; None without regions.
        keep: ``(total_regions,)`` bool; None means that every region is kept.
        factor: packed triangular factors of the regions (`ops.triangular_factor`), or None.
        folded: ``(n_images, dim)``, the vectors of a similarity that folds, or None.
    """

    ids: tuple[str, ...]
    global_features: Tensor
    regions: Ragged | None = None
    boxes: Tensor | None = None
    keep: Tensor | None = None
    factor: Tensor | None = None
    folded: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class TextFeatures:
    """Features of a batch of texts.

    Attributes:
        ids: ``n_texts`` text ids.
        global_features: ``(n_texts, dim)``, rows of unit length.
        fragments: Ragged, ``values (total_fragments, dim)`` of unit length, one run of rows a text; or None.
        phrases: the fragments' words, one tuple a text, parallel to `fragments`.
    """

    ids: tuple[str, ...]
    global_features: Tensor
    fragments: Ragged | None = None
    phrases: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Hit:
    """One answer to a query.

    Attributes:
        id: the image's (or text's) id.
        score: fp32 score, higher is better.
        rank: from 1.
        regions: per phrase the best region as ``(phrase, (x0, y0, x1, y1), score)``, boxes as fractions of width
            and height; empty where the similarity has no regions or they were not asked for. Of a detail that a last
            look found, the box is where it was found, and the score still the cosine of the nearest region.
        last: score of the last look (`search.last`), by which what was looked at is ranked, before the rest; `score` is
            then still the similarity's. None where nothing looked.
        relevance: share of unrelated queries whose best answer scores lower, 0..1 (`search.Calibration`);
            None where the store has no calibration.
    """

    id: str
    score: float
    rank: int
    regions: tuple[tuple[str, tuple[float, float, float, float], float], ...] = ()
    relevance: float | None = None
    last: float | None = None

    def asdict(self) -> dict[str, Any]:
        """Return a JSON-ready dict; ``corpus_id`` repeats `id` for users of sentence-transformers' ``rank``.

        A score of -inf (an image without regions) becomes None: JSON has no infinity.
        """
        score = self.score if math.isfinite(self.score) else None
        record: dict[str, Any] = {"id": self.id, "corpus_id": self.id, "score": score, "rank": self.rank}
        if self.last is not None:
            record["last"] = self.last
        if self.relevance is not None:
            record["relevance"] = self.relevance
        if self.regions:
            record["regions"] = [{"phrase": p, "box": list(b), "score": s} for p, b, s in self.regions]
        return record


@dataclass
class Run:
    """Ranked answers to a batch of queries, best first; ties keep the candidates' order.

    Attributes:
        query_ids: ``n_queries`` ids.
        ids: for every query its answers' ids, best first (lengths may differ).
        scores: for every query the scores, parallel to `ids`.
        tag: the system's name, the last column of a TREC run.
    """

    query_ids: tuple[str, ...]
    ids: list[list[str]]
    scores: list[list[float]]
    tag: str = "heritage_align"

    def hits(self, query_id: str) -> list[Hit]:
        """Return the answers to one query; raises KeyError for an unknown id."""
        try:
            row = self.query_ids.index(query_id)
        except ValueError:
            raise KeyError(query_id) from None
        return [Hit(i, s, r) for r, (i, s) in enumerate(zip(self.ids[row], self.scores[row]), start=1)]

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Return ``{query_id: {id: score}}``, the shape that ranx, pytrec_eval and ir_measures read."""
        return {q: dict(zip(i, s)) for q, i, s in zip(self.query_ids, self.ids, self.scores)}

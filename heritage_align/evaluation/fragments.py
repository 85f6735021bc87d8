"""Retrieval between fragments: image annotation and image search (Sheng et al. 2021, section 4.6).

In *image annotation* an image fragment ranks the phrases (direction ``i2t``; several are right), in *image search* a
phrase ranks the image fragments (``t2i``). The score is the inner product in the common space, as in the paper, or the
cosine. Recall@K is the share of queries with a right answer among the first K; ties as in `evaluation.ranks`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from heritage_align.errors import DataError
from heritage_align.evaluation.chance import chance_recall
from heritage_align.evaluation.golden import BoolMatrix
from heritage_align.evaluation.metrics import KS, EvaluationResult, evaluate_scores
from heritage_align.types import TextItem

Score = Literal["inner", "cosine"]
Relevance = BoolMatrix | Tensor | Sequence[Collection[int]]
EPSILON = 1e-8
"""Least length of a row for the cosine: a ReLU projection may give a vector of zeros."""


@dataclass(frozen=True)
class FragmentEvaluation:
    """Recalls of one system on one golden set.

    Attributes:
        result: ``i2t`` is image annotation, ``t2i`` image search.
        chance: direction -> K -> the recall, in percent, that a random order is expected to have.
        scores: ``(n_fragments, n_phrases)`` fp32.
    """

    result: EvaluationResult
    chance: Mapping[str, Mapping[int, float]]
    scores: Tensor

    def asdict(self) -> dict[str, Any]:
        """Return the numbers, JSON-ready."""
        chance = {name: {f"R@{k}": v for k, v in level.items()} for name, level in self.chance.items()}
        return {**self.result.asdict(), "chance": chance}


def evaluate_fragments(
    region_vectors: Tensor,
    phrase_vectors: Tensor,
    relevant: Relevance,
    *,
    score: Score = "inner",
    ks: Sequence[int] = KS,
    fragment_ids: Sequence[str] | None = None,
    phrases: Sequence[str] | None = None,
    system: str = "heritage_align",
) -> FragmentEvaluation:
    """Score all fragments against all phrases and rank in both directions.

    Args:
        region_vectors: ``(n_fragments, dim)``.
        phrase_vectors: ``(n_phrases, dim)``.
        relevant: ``(n_fragments, n_phrases)`` bool, or for every fragment the columns of its phrases. A fragment or
            phrase without a counterpart is no query but stays a candidate.
        score: ``"inner"`` (the paper's) or ``"cosine"``.
        ks: the cut-offs, ascending.
        fragment_ids: names of the rows; by default their numbers.
        phrases: the distinct strings of the columns (`pool_golden`); by default their numbers.
        system: the name of the row in a table.

    Raises:
        DataError: shapes that do not fit, vectors that are not finite, repeated ids, or nothing relevant.
    """
    for name, vectors in (("region_vectors", region_vectors), ("phrase_vectors", phrase_vectors)):
        if vectors.ndim != 2:
            raise DataError(f"{name}: expected (n, dim), got shape {tuple(vectors.shape)}")
        bad = ~torch.isfinite(vectors).all(dim=1)
        if bad.any():
            raise DataError(f"{name}: {int(bad.sum())} rows are not finite, the first is row {int(bad.int().argmax())}")
    if region_vectors.shape[1] != phrase_vectors.shape[1]:
        raise DataError(
            f"region_vectors have {region_vectors.shape[1]} dimensions, phrase_vectors {phrase_vectors.shape[1]}"
        )
    regions, texts = region_vectors.detach().float().cpu(), phrase_vectors.detach().float().cpu()
    if score == "cosine":
        regions, texts = (v / v.norm(dim=1, keepdim=True).clamp_min(EPSILON) for v in (regions, texts))
    elif score != "inner":
        raise DataError(f"score: expected 'inner' or 'cosine', got {score!r}")
    return evaluate_fragment_scores(
        regions @ texts.T, relevant, ks=ks, fragment_ids=fragment_ids, phrases=phrases, system=system
    )


def evaluate_fragment_scores(
    scores: Tensor,
    relevant: Relevance,
    *,
    ks: Sequence[int] = KS,
    fragment_ids: Sequence[str] | None = None,
    phrases: Sequence[str] | None = None,
    system: str = "heritage_align",
) -> FragmentEvaluation:
    """Rank a score matrix of any origin, as `evaluate_fragments` does.

    Args:
        scores: ``(n_fragments, n_phrases)``, higher is better; -inf is a score, NaN is none.

    Raises:
        DataError: as `evaluate_fragments`, and NaN.
    """
    if scores.ndim != 2:
        raise DataError(f"scores: expected (n_fragments, n_phrases), got shape {tuple(scores.shape)}")
    rows, columns = scores.shape
    right = _relevance(relevant, rows, columns)
    names = _names("fragment_ids", fragment_ids, rows)
    words = _names("phrases", phrases, columns)
    scores = scores.detach().float().cpu()
    bad = torch.isnan(scores).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise DataError(f"scores: {len(bad)} NaN, the first of fragment {names[row]!r} and phrase {words[column]!r}")
    texts = [
        TextItem(word, word, tuple(names[row] for row in np.flatnonzero(right[:, column])))
        for column, word in enumerate(words)
    ]
    result = evaluate_scores(scores, names, texts, ks=ks, system=system)
    chance = {
        "t2i": chance_recall(right.sum(axis=0), rows, ks),
        "i2t": chance_recall(right.sum(axis=1), columns, ks),
    }
    return FragmentEvaluation(result, chance, scores)


def _relevance(relevant: Relevance, rows: int, columns: int) -> BoolMatrix:
    if isinstance(relevant, Tensor):
        relevant = relevant.detach().cpu().numpy()
    if isinstance(relevant, np.ndarray):
        if relevant.dtype != np.bool_ or relevant.shape != (rows, columns):
            raise DataError(
                f"relevant: expected bool ({rows}, {columns}) as the scores, got {relevant.dtype} {relevant.shape}"
            )
        matrix = relevant
    else:
        if len(relevant) != rows:
            raise DataError(f"relevant: expected the phrases of {rows} fragments, got {len(relevant)}")
        matrix = np.zeros((rows, columns), dtype=np.bool_)
        for row, right in enumerate(relevant):
            outside = [column for column in right if not 0 <= column < columns]
            if outside:
                raise DataError(f"relevant[{row}]: {outside[0]} is not one of the {columns} phrases")
            matrix[row, list(right)] = True
    if not matrix.any():
        raise DataError("relevant: no phrase belongs to any fragment: there are no golden pairs to evaluate with")
    return matrix


def _names(what: str, names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if names is None:
        return tuple(str(number) for number in range(count))
    if len(names) != count:
        raise DataError(f"{what}: expected {count}, got {len(names)}")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{what}: {name!r} occurs twice; equal phrases are one candidate (see pool_golden)")
        seen.add(name)
    return tuple(names)

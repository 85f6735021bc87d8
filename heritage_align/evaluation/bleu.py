"""BLEU of image annotation: how near the first-ranked phrase comes to the golden phrases (Sheng et al. 2021, Table 10).

A phrase may be right for a fragment without being among its annotations; BLEU-1 to BLEU-4 (Papineni et al. 2002) give
credit for the n-grams that it shares with them. Computed by sacrebleu over the corpus of all fragments: clipped
counts are summed, the precisions of orders 1 to N averaged geometrically, the reference length is the closest, the
shorter of two equally close ones. The paper names no tool and no tokeniser: Chinese is split into characters (``zh``),
English by ``13a``, case is kept, and a precision of 0 is not smoothed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
from torch import Tensor

from heritage_align.errors import DataError, MissingDependency
from heritage_align.evaluation.golden import GoldenSet

TOKENIZERS = {"zh": "zh", "en": "13a"}
ORDERS = (1, 2, 3, 4)


@dataclass(frozen=True)
class BleuScores:
    """Corpus BLEU of one system.

    Attributes:
        bleu: BLEU-1, -2, -3, -4, in percent.
        fragments: the number of phrases that were compared.
        brevity: the brevity penalty, in (0, 1].
        signature: sacrebleu's, with its version, for a reader who wants to repeat it.
    """

    bleu: tuple[float, float, float, float]
    fragments: int
    brevity: float
    signature: str

    def asdict(self) -> dict[str, Any]:
        """Return the numbers, JSON-ready."""
        scores = {f"BLEU-{order}": value for order, value in zip(ORDERS, self.bleu)}
        return {**scores, "fragments": self.fragments, "brevity": self.brevity, "signature": self.signature}


def annotation_bleu(
    scores: Tensor, golden: GoldenSet, language: Literal["zh", "en"], *, lowercase: bool = False
) -> BleuScores:
    """Compare the first-ranked phrase of every fragment with the fragment's phrases.

    Args:
        scores: ``(n_fragments, n_phrases)`` as `FragmentEvaluation.scores`; of equal scores the first column counts.
        golden: says what the rows and columns are.
        language: of the phrases.
        lowercase: compare without case.

    Raises:
        DataError: scores of another shape or NaN, or as `corpus_bleu`.
        MissingDependency: sacrebleu is not installed.
    """
    if tuple(scores.shape) != golden.relevant.shape:
        raise DataError(f"scores: expected {golden.relevant.shape} as the golden set, got {tuple(scores.shape)}")
    matrix = scores.detach().float().cpu().numpy()
    if np.isnan(matrix).any():
        raise DataError(f"scores: {int(np.isnan(matrix).sum())} NaN")
    # numpy's argmax gives the first of equal maxima, torch's any.
    best = [golden.phrases[column] for column in matrix.argmax(axis=1)]
    return corpus_bleu(best, golden.references(), language, lowercase=lowercase)


def corpus_bleu(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    language: Literal["zh", "en"],
    *,
    lowercase: bool = False,
) -> BleuScores:
    """Compute BLEU-1 to BLEU-4 of phrases with any number of references each.

    Args:
        hypotheses: one phrase a fragment.
        references: parallel, one or more right phrases a fragment.
        language: ``"zh"`` or ``"en"``.
        lowercase: compare without case.

    Raises:
        DataError: no hypotheses, lists of different length, a fragment without references, or another language.
        MissingDependency: sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise MissingDependency("BLEU needs sacrebleu: pip install 'heritage-align[evaluation]'") from error
    if language not in TOKENIZERS:
        raise DataError(f"language: expected one of {', '.join(TOKENIZERS)}, got {language!r}")
    if not hypotheses or len(hypotheses) != len(references):
        raise DataError(f"expected as many hypotheses as references, got {len(hypotheses)} and {len(references)}")
    if bare := [row for row, right in enumerate(references) if not right]:
        raise DataError(f"references: {len(bare)} fragments have none, the first is fragment {bare[0]}")
    # sacrebleu takes streams, the n-th references of all fragments; None where a fragment has fewer.
    streams = [list(stream) for stream in zip_longest(*references)]
    found = []
    for order in ORDERS:
        metric = BLEU(
            tokenize=TOKENIZERS[language], lowercase=lowercase, smooth_method="none", max_ngram_order=order, force=True
        )
        found.append(metric.corpus_score(hypotheses, streams))
    bleu = (found[0].score, found[1].score, found[2].score, found[3].score)
    return BleuScores(bleu, len(hypotheses), found[0].bp, str(metric.get_signature()))

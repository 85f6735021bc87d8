"""BLEU by hand, and against a slow obvious implementation of Papineni et al. (2002)."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heritage_align.errors import DataError
from heritage_align.evaluation.bleu import annotation_bleu, corpus_bleu
from heritage_align.evaluation.golden import pool_golden
from heritage_align.types import GoldenPair


def test_chinese_characters_by_hand() -> None:
    """蓝地莲纹 has 4 of its 4 characters in the references, and 蓝地, 莲纹 of its 3 bigrams; 云 none of 1.

    Characters 4/5, bigrams 2/3, no trigram. Lengths: 4 is as far from 6 as from 2, the shorter counts; 1 and 2. 5
    characters against 2 + 2: no brevity penalty.
    """
    scores = corpus_bleu(["蓝地莲纹", "云"], [["蓝地缠枝莲纹", "莲纹"], ["凤凰"]], "zh")
    assert scores.bleu[0] == pytest.approx(80)
    assert scores.bleu[1] == pytest.approx(100 * math.sqrt(4 / 5 * 2 / 3))
    assert scores.bleu[2:] == (0, 0)
    assert scores.brevity == 1
    assert scores.fragments == 2


def test_brevity_and_clipping_by_hand() -> None:
    """the the: one "the" is clipped away. 2 words against 4: exp(1 - 2)."""
    scores = corpus_bleu(["the the"], [["the bowl with dragons", "a bowl with two blue dragons"]], "en")
    assert scores.bleu[0] == pytest.approx(50 * math.exp(-1))
    assert scores.brevity == pytest.approx(math.exp(-1))


def test_case_counts_unless_told() -> None:
    assert corpus_bleu(["Blue Bowl"], [["blue bowl"]], "en").bleu[0] == 0
    assert corpus_bleu(["Blue Bowl"], [["blue bowl"]], "en", lowercase=True).bleu[1] == pytest.approx(100)
    assert "tok:13a" in corpus_bleu(["Blue Bowl"], [["blue bowl"]], "en").signature


def reference_bleu(hypotheses: list[str], references: list[list[str]], order: int) -> float:
    def ngrams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    length = closest = 0
    right, total = [0] * order, [0] * order
    for phrase, answers in zip(hypotheses, references):
        words, others = phrase.split(), [answer.split() for answer in answers]
        length += len(words)
        closest += min((abs(len(o) - len(words)), len(o)) for o in others)[1]
        for n in range(1, order + 1):
            for gram, count in ngrams(words, n).items():
                total[n - 1] += count
                right[n - 1] += min(count, max(ngrams(o, n)[gram] for o in others))
    if not all(right):
        return 0.0
    penalty = min(1.0, math.exp(1 - closest / length))
    return 100 * penalty * math.exp(sum(math.log(r / t) for r, t in zip(right, total)) / order)


PHRASES = st.lists(st.sampled_from(["blue", "lotus", "bowl", "with"]), min_size=1, max_size=6).map(" ".join)


@given(st.lists(st.tuples(PHRASES, st.lists(PHRASES, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_any_number_of_references_equals_the_reference(pairs: list[tuple[str, list[str]]]) -> None:
    hypotheses, references = [h for h, _ in pairs], [r for _, r in pairs]
    found = corpus_bleu(hypotheses, references, "en").bleu
    assert found == pytest.approx([reference_bleu(hypotheses, references, n) for n in (1, 2, 3, 4)])


GOLDEN = pool_golden(
    [
        GoldenPair("a", (0, 0, 1, 1), ("a blue lotus flower", "blue lotus")),
        GoldenPair("b", (0, 0, 1, 1), ("a white crane",)),
    ]
)


def test_the_first_ranked_phrase_is_compared() -> None:
    # a ranks its second phrase first, in a tie with the third; b ranks "blue lotus".
    scores = torch.tensor([[0.1, 0.9, 0.9], [0.0, 3.0, 1.0]])
    found = annotation_bleu(scores, GOLDEN, "en")
    assert found == corpus_bleu(
        ["blue lotus", "blue lotus"], [["a blue lotus flower", "blue lotus"], ["a white crane"]], "en"
    )
    assert found.bleu[0] == pytest.approx(50 * math.exp(1 - 5 / 4))
    assert found.asdict()["BLEU-1"] == found.bleu[0]


def test_perfect_annotation_is_100() -> None:
    found = annotation_bleu(torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]), GOLDEN, "en")
    assert found.bleu[:3] == (pytest.approx(100), pytest.approx(100), pytest.approx(100))


def test_what_cannot_be_compared_is_named() -> None:
    with pytest.raises(DataError, match=r"expected \(2, 3\) as the golden set, got \(3, 2\)"):
        annotation_bleu(torch.zeros(3, 2), GOLDEN, "en")
    with pytest.raises(DataError, match="1 NaN"):
        annotation_bleu(torch.tensor([[1.0, torch.nan, 0], [0, 0, 1.0]]), GOLDEN, "en")
    with pytest.raises(DataError, match="as many hypotheses as references, got 0 and 0"):
        corpus_bleu([], [], "en")
    with pytest.raises(DataError, match="1 fragments have none, the first is fragment 1"):
        corpus_bleu(["x", "y"], [["x"], []], "en")
    with pytest.raises(DataError, match="language: expected one of zh, en, got 'de'"):
        corpus_bleu(["x"], [["x"]], "de")  # type: ignore[arg-type]

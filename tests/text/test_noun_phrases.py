"""The noun-phrase automaton: NPFST's own answers, the paper's example, and the pattern written as a regex."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heritage_align.text import (
    CHINESE,
    ENGLISH,
    ICTCLAS,
    PENN,
    UNIVERSAL,
    Grammar,
    TagSet,
    coarse_tags,
    noun_phrase_spans,
)

ORACLES = Path(__file__).parents[3] / "shared" / "data" / "oracles"


def test_spans_equal_those_of_npfst() -> None:
    if not ORACLES.exists():
        pytest.skip(f"{ORACLES} is not there: the sequences are not shipped")
    sequences = (ORACLES / "npfst_pos_sequences.txt").read_text().splitlines()
    answers = (ORACLES / "npfst_expected_spans_1based.txt").read_text().splitlines()
    total = 0
    for tags, answer in zip(sequences, answers, strict=True):
        expected = [(int(a) - 1, int(b)) for a, b in re.findall(r"\{(\d+),(\d+)\}", answer)]
        assert noun_phrase_spans(coarse_tags(tags.split()), min_length=2, max_length=8) == expected
        total += len(expected)
    assert total == 954


def test_the_example_of_the_paper() -> None:
    """Sheng et al. 2021, section 4.2; the tags are those under which the grammar gives the paper's seven phrases: the
    tagger had the first word as no noun, and the closing quotation mark as a token of its own."""
    caption = "Porcelain straight-sided bowl with underglaze blue and overglaze enamels in ‘doucai ’ style"
    words = caption.split()
    spans = noun_phrase_spans("OANPANOANPNON", min_length=2)
    assert [" ".join(words[start:end]) for start, end in spans] == [
        "straight-sided bowl",
        "straight-sided bowl with underglaze blue",
        "bowl with underglaze blue",
        "underglaze blue",
        "overglaze enamels",
        "overglaze enamels in ‘doucai",
        "enamels in ‘doucai",
    ]


@pytest.mark.parametrize(
    ("words", "tags", "phrases"),
    [
        ("美丽 的 凤凰", "a uj nr", ["美丽的凤凰"]),
        ("龙 的 爪子", "n uj n", ["龙的爪子"]),
        ("三 朵 大 牡丹", "m q a n", ["三朵大牡丹", "大牡丹"]),
        ("一只 红色 的 龙", "m n uj n", ["一只红色", "一只红色的龙", "红色的龙"]),
        ("龙 和 凤", "n c n", []),
        ("在 水 上", "p n f", []),
        ("两米 的 布", "mq uj n", ["两米的布"]),
        ("的 龙", "uj n", []),
    ],
)
def test_chinese_by_hand(words: str, tags: str, phrases: list[str]) -> None:
    tokens = words.split()
    spans = noun_phrase_spans(coarse_tags(tags.split(), ICTCLAS), 2, 8, CHINESE)
    assert ["".join(tokens[start:end]) for start, end in spans] == phrases


@pytest.mark.parametrize(
    ("tag_set", "tags", "letters"),
    [
        (PENN, "JJ CD DT NN NNPS IN TO VB , FW", "AADNNPPOON"),
        (UNIVERSAL, "ADJ NUM DET NOUN PROPN ADP VERB PUNCT", "AADNNPOO"),
        (ICTCLAS, "a m q uj n vn v p x", "AAQLNNOOO"),
        (PENN, "A N D P O", "ANDPO"),
    ],
)
def test_tag_sets(tag_set: TagSet, tags: str, letters: str) -> None:
    assert coarse_tags(tags.split(), tag_set) == letters


SLOW = {
    "ADNPO": (ENGLISH, re.compile(r"[AN]*N(PD*[AN]*N)*")),
    "ALNQO": (CHINESE, re.compile(r"((AQ?|N)+L)*(AQ?|N)*N")),
}


@pytest.mark.parametrize("letters", SLOW)
@settings(deadline=None)
@given(data=st.data())
def test_spans_equal_a_regex_over_every_substring(letters: str, data: st.DataObject) -> None:
    grammar, pattern = SLOW[letters]
    tags = data.draw(st.text(letters, max_size=14))
    shortest = data.draw(st.integers(1, 4))
    longest = data.draw(st.integers(shortest, 14))
    expected = [
        (start, end)
        for start in range(len(tags))
        for end in range(start + shortest, min(start + longest, len(tags)) + 1)
        if pattern.fullmatch(tags[start:end])
    ]
    assert noun_phrase_spans(tags, shortest, longest, grammar) == expected


@pytest.mark.parametrize("grammar", [ENGLISH, CHINESE])
def test_a_long_text_gives_at_most_max_length_spans_a_word(grammar: Grammar) -> None:
    # A regex with nested repetitions backtracks exponentially on a run of modifiers without a noun.
    assert noun_phrase_spans("A" * 100_000, 2, 8, grammar) == []
    assert len(noun_phrase_spans("N" * 50_000, 1, 8, grammar)) == 50_000 * 8 - 28


@pytest.mark.parametrize(("shortest", "longest"), [(0, 8), (3, 2)])
def test_lengths_that_make_no_sense(shortest: int, longest: int) -> None:
    with pytest.raises(ValueError, match=f"expected 1 <= min_length <= max_length, got {shortest}, {longest}"):
        noun_phrase_spans("AN", shortest, longest)

"""Pieces of words as tokens of a bag (model.pieces)."""

from __future__ import annotations

import math

import pytest
from heritage_align_plugins.alignment.text.tokens import UNKNOWN, Vocabulary, n_grams, pieces_of
from hypothesis import given
from hypothesis import strategies as st


def test_pieces_of_a_word_by_hand() -> None:
    assert pieces_of("vase", 4) == ["#<va", "#vas", "#ase", "#se>", "#<vas", "#vase", "#ase>"]
    assert pieces_of("a", 4) == ["#<a>"]
    assert pieces_of("a", 3) == ["#<a>"]


def test_a_chinese_character_has_no_pieces() -> None:
    assert pieces_of("青", 5) == []
    assert n_grams(["青", "花"], 4) == ["青", "花", "青 花"]


@given(st.text("abcdefgh", min_size=1, max_size=12), st.integers(3, 6))
def test_every_piece_is_inside_the_marked_word(word: str, longest: int) -> None:
    marked = f"<{word}>"
    found = pieces_of(word, longest)
    assert all(piece[1:] in marked and 3 <= len(piece) - 1 <= longest for piece in found)
    assert len(found) == sum(max(0, len(marked) - length + 1) for length in range(3, longest + 1))


def test_words_that_share_a_stem_share_most_of_their_weight() -> None:
    texts = ["a dog runs", "two dogs running", "a house", "houses stand"]
    plain, pieces = Vocabulary.of(texts, 1, 1), Vocabulary.of(texts, 1, 1, pieces=4)
    assert _cosine(plain, "dog", "dogs") == 0
    assert _cosine(pieces, "dog", "dogs") > 0.3
    assert _cosine(pieces, "dog", "house") == pytest.approx(0)


def test_rare_pieces_are_left_out_and_single_tokens_keep_the_first_rows() -> None:
    vocabulary = Vocabulary.of(["red vase", "red bowl"], 1, 2, pieces=3)
    names = list(vocabulary.tokens)
    assert names[: vocabulary.singles - 1] == ["bowl", "red", "vase"]
    assert names[vocabulary.singles - 1 :] == ["#<re", "#ed>", "#red"]  # twice; those of vase and bowl once


def test_weights_by_hand() -> None:
    vocabulary = Vocabulary.of(["ab", "ab", "cd"], 1, 1, pieces=3)
    rows, weights = vocabulary.weighted("ab")
    # ab, <ab and ab> are in two of three texts: the same idf each.
    assert [list(vocabulary.tokens)[row - 1] for row in rows] == ["ab", "#<ab", "#ab>"]
    assert weights == pytest.approx([1 / math.sqrt(3)] * 3)


def test_a_vocabulary_comes_back_from_its_document() -> None:
    vocabulary = Vocabulary.of(["red vase", "red bowl"], pieces=4)
    again = Vocabulary.from_dict(vocabulary.asdict())
    assert again == vocabulary
    assert again.weighted("reds") == vocabulary.weighted("reds")
    assert vocabulary.weighted("!") == ([UNKNOWN], [0.0])


def _cosine(vocabulary: Vocabulary, one: str, other: str) -> float:
    first, second = (dict(zip(*vocabulary.weighted(text))) for text in (one, other))
    return sum(weight * second.get(row, 0.0) for row, weight in first.items() if row != UNKNOWN)

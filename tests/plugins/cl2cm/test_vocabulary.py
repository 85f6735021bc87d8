"""Words and their numbers."""

from __future__ import annotations

import pytest
import torch
from heritage_align_plugins.cl2cm.pairs import Pairs, epoch_batches, trimmed
from heritage_align_plugins.cl2cm.vocabulary import UNKNOWN, Vocabulary, hide, tokens_of
from hypothesis import given
from hypothesis import strategies as st

from heritage_align.text import plain_characters


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Two White cranes, on blue.", ["two", "white", "cranes", ",", "on", "blue", "."]),
        ("蓝地缠枝莲纹", list("蓝地缠枝莲纹")),
        ("清17th世紀の絵", ["清", "17th", "世", "紀", "の", "絵"]),
        ("zwei Kräne_über", ["zwei", "kräne", "_", "über"]),
        ("𠮷 — ok", ["𠮷", "—", "ok"]),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert tokens_of(text) == tokens


@given(st.text().filter(lambda text: plain_characters(text).strip()))
def test_every_text_has_a_token_and_keeps_its_signs(text: str) -> None:
    assert "".join(tokens_of(text)) == "".join(plain_characters(text).lower().split())


def test_a_character_that_was_not_counted_is_read_in_its_other_form() -> None:
    pytest.importorskip("opencc", reason="the optional extra 'chinese' is not installed")
    for captions, query in (("蓝地莲纹", "藍地蓮紋"), ("藍地蓮紋", "蓝地莲纹")):
        vocabulary = Vocabulary.of([captions])
        assert vocabulary.encode([query], 9).tolist() == vocabulary.encode([captions], 9).tolist()
    both = Vocabulary.of(["蓝藍"])
    assert sorted(both.encode(["蓝藍"], 9)[0].tolist()) == [2, 3]


def test_numbers_go_by_frequency_and_rare_words_are_unknown() -> None:
    vocabulary = Vocabulary.of(["a b b", "a c", "a b"], min_count=2)
    assert vocabulary.tokens == ("a", "b")  # b twice in one text counts once, and still in two texts
    assert len(vocabulary) == 4
    assert vocabulary.encode(["b a", "c"], 8).tolist() == [[3, 2], [UNKNOWN, 0]]
    assert vocabulary.encode(["a a a a"], 2).tolist() == [[2, 2]]
    assert vocabulary.encode([], 2).shape == (0, 0)


@pytest.mark.parametrize("text", ["", " \n", None])
def test_a_blank_text_is_refused_by_its_position(text: str) -> None:
    with pytest.raises(ValueError, match=r"texts\[1\]: expected a text"):
        Vocabulary(["a"]).encode(["a", text], 4)


def test_hidden_tokens_are_unknown_and_padding_stays() -> None:
    numbers = torch.tensor([[2, 3, 4, 0]] * 500)
    torch.manual_seed(0)
    hidden = hide(numbers, 0.3)
    assert (hidden[:, 3] == 0).all()
    changed = hidden[:, :3] != numbers[:, :3]
    assert (hidden[:, :3][changed] == UNKNOWN).all()
    assert 0.25 < changed.float().mean() < 0.35
    assert hide(numbers, 0.0) is numbers


def test_an_epoch_has_every_picture_once_with_any_of_its_captions() -> None:
    picture = torch.tensor([0, 0, 1, 1, 2, 3, 4, 5])
    epochs = [epoch_batches(picture, 3, seed) for seed in range(30)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [3, 3]
        assert sorted(picture[torch.cat(batches)].tolist()) == [0, 1, 2, 3, 4, 5]
    assert {pair for batches in epochs for batch in batches for pair in batch.tolist()} == set(range(8))
    assert all(torch.equal(a, b) for a, b in zip(epoch_batches(picture, 3, 7), epochs[7]))


def test_a_last_batch_that_is_not_full_is_left_out_unless_it_is_the_only_one() -> None:
    assert [len(batch) for batch in epoch_batches(torch.arange(8), 3, 0)] == [3, 3]
    assert [len(batch) for batch in epoch_batches(torch.arange(2), 3, 0)] == [2]


def test_pairs_are_joined_at_the_longer_width() -> None:
    short = Pairs(torch.tensor([[2]]), torch.tensor([[3, 4]]), torch.tensor([0]))
    long = Pairs(torch.tensor([[5, 6]]), torch.tensor([[7]]), torch.tensor([1]))
    joined = short.joined(long)
    assert joined.source.tolist() == [[2, 0], [5, 6]]
    assert joined.target.tolist() == [[3, 4], [7, 0]]
    assert joined.picture.tolist() == [0, 1]
    assert trimmed(joined.source[:1]).tolist() == [[2]]

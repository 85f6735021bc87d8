"""How an epoch's batches are drawn."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
from heritage_align_plugins.contrastive.pairs import Pairs, batch_count, draw_batches, pairs_of
from hypothesis import given, settings
from hypothesis import strategies as st

from heritage_align.data.union import Union
from heritage_align.errors import DataError
from heritage_align.types import TextItem


def pairs_with(counts: list[int]) -> Pairs:
    """Return pairs of which picture i has ``counts[i]`` captions."""
    ends = np.cumsum(counts).tolist()
    captions = tuple(tuple(range(end - count, end)) for end, count in zip(ends, counts))
    texts = tuple(TextItem(str(row), "锦") for row in range(sum(counts)))
    return Pairs(tuple(map(str, range(len(counts)))), texts, captions)


def most_batches(counts: list[int], size: int) -> int:
    """Return the number of batches by trying: fill each with the pictures that have most captions left."""
    left, number = Counter(dict(enumerate(counts))), 0
    while True:
        most = [row for row, count in left.most_common(size) if count > 0]
        if len(most) < size:
            return number
        left.subtract(most)
        number += 1


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(1, 5), st.integers(0, 3))
def test_every_batch_is_full_and_no_pair_and_no_picture_in_a_batch_comes_twice(counts, size, seed):
    pairs = pairs_with(counts)
    batches = draw_batches(pairs, size, "all", np.random.default_rng(seed))
    assert len(batches) == batch_count(pairs, size, "all") == most_batches(counts, size)
    drawn = [tuple(pair) for batch in batches for pair in batch.tolist()]
    assert len(set(drawn)) == len(drawn)
    assert all(text in pairs.captions[image] for image, text in drawn)
    assert all(len(batch) == size == len(set(batch[:, 0].tolist())) for batch in batches)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=9), st.integers(1, 4))
def test_one_caption_a_picture_and_epoch(counts, size):
    pairs = pairs_with(counts)
    batches = draw_batches(pairs, size, "one", np.random.default_rng(0))
    images = [image for batch in batches for image in batch[:, 0].tolist()]
    assert len(batches) == batch_count(pairs, size, "one") == len(counts) // size
    assert len(set(images)) == len(images)


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 7), st.integers(2, 4), st.integers(0, 9))
def test_pictures_of_an_artwork_are_drawn_together(artworks, size, together, seed):
    pairs = replace(pairs_with([2] * len(artworks)), artworks=tuple(map(str, artworks)))
    batches = draw_batches(pairs, size, "one", np.random.default_rng(seed), together)
    assert len(batches) == batch_count(pairs, size, "one")
    assert all(batch.shape == (size, 2) for batch in batches)
    drawn = [(image, text) for batch in batches for image, text in batch.tolist()]
    assert all(text in pairs.captions[image] for image, text in drawn)
    assert len({image for image, _ in drawn}) == len(drawn)
    runs = [len(list(run)) for _, run in groupby(artworks[image] for image, _ in drawn)]
    # Only what an artwork has over, and the group that the last batch's end cuts, are shorter than asked for.
    alone = sum(count % together > 0 for count in Counter(artworks).values())
    assert sum(run % together > 0 for run in runs) <= alone + 1


def test_together_by_hand():
    pairs = replace(pairs_with([1] * 8), artworks=("a", "b", "c", "d") * 2)
    for seed in range(20):
        for batch in draw_batches(pairs, 4, "one", np.random.default_rng(seed), 2):
            artworks = [pairs.artworks[image] for image in batch[:, 0].tolist()]
            assert artworks[0] == artworks[1]
            assert artworks[2] == artworks[3]


def test_all_pairs_are_drawn_where_they_fill_the_batches():
    batches = draw_batches(pairs_with([5] * 8), 4, "all", np.random.default_rng(0))
    assert {text for batch in batches for text in batch[:, 1].tolist()} == set(range(40))


def test_epochs_differ_and_a_seed_repeats():
    pairs = pairs_with([2] * 20)
    one, same, other = (draw_batches(pairs, 8, "all", np.random.default_rng((0, epoch))) for epoch in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, same))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other))


def test_what_fills_no_batch_is_another_picture_s_in_another_epoch():
    pairs = pairs_with([1] * 9)
    left_out = {
        9 * 4 - sum(int(batch[:, 0].sum()) for batch in draw_batches(pairs, 4, "all", np.random.default_rng(seed)))
        for seed in range(50)
    }
    assert left_out == set(range(9))


class Data:
    name = "data"
    golden = ()

    def __init__(self, image_ids, texts):
        self.image_ids, self.texts = tuple(image_ids), tuple(texts)

    def load_image(self, image_id):
        raise AssertionError("pairs need no picture")


def test_a_text_of_two_pictures_is_a_pair_of_each_and_strangers_are_left_out():
    texts = [TextItem("t0", "锦", ("a", "b", "a")), TextItem("t1", "罗", ("c", "x")), TextItem("t2", "绢", ("x",))]
    pairs = pairs_of(Data("abcd", texts))
    assert pairs.image_ids == ("a", "b", "c")
    assert [item.id for item in pairs.texts] == ["t0", "t1"]
    assert pairs.captions == ((0,), (0,), (1,))
    assert len(pairs) == 3
    assert pairs.artworks == ("a", "b", "c")
    assert pairs.sources == (0, 0, 0)


def test_pairs_know_their_artworks_and_parts_of_a_union():
    vases, plates = Data("ab", [TextItem("t0", "瓶", ("b",))]), Data("c", [TextItem("t1", "盘", ("c",))])
    vases.artwork_of = {"a": "vase 1", "b": "vase 2"}
    pairs = pairs_of(Union([vases, plates]))
    assert pairs.image_ids == ("b", "c")
    assert pairs.artworks == ("vase 2", "c")
    assert pairs.sources == (0, 1)


def test_a_blank_caption_is_named():
    with pytest.raises(DataError, match="data: 1 blank captions, the first is text 't1'"):
        pairs_of(Data("a", [TextItem("t0", "锦", ("a",)), TextItem("t1", " ", ("a",))]))


def test_captions_of_other_pictures_are_no_pairs():
    with pytest.raises(DataError, match="data: no caption belongs to any of its 1 pictures"):
        pairs_of(Data("a", [TextItem("t0", "锦", ("b",))]))

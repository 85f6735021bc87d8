"""Ids that are spelled otherwise in the file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heritage_align.data.region_features.matching import IdMatcher
from heritage_align.errors import DataError


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        ("images/1a.jpg", "images/1a.jpg"),
        ("images/1a.jpg", "1a"),
        ("1a", "images/1a.JPG"),
        ("./images/1a.png", "images\\1a.jpeg"),
        ("/data/x/images/蓝地.webp", "images/蓝地"),
        ("COCO_train2014_000000132417", "132417"),
        ("132417", "train2014/COCO_train2014_000000132417.jpg"),
        ("val2014/COCO_val2014_000000000042.jpg.npz", "COCO_val2014_000000000042"),
        ("0007", "7"),
        ("000", "0.npz"),
        ("a.b.c.jpg", "a.b.c"),
    ],
)
def test_the_same_image_is_found(known: str, asked: str) -> None:
    assert IdMatcher(["other", known], "file").rows([asked]) == [1]


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        ("train/1a.jpg", "test/1a.jpg"),
        ("1a", "1A"),
        ("1a", "1"),
        ("COCO_train2014_000000132417", "13241"),
        ("x/COCO_train2014_132417", "132417"),
        ("a.b", "a"),
        ("a", ""),
        ("a", "/"),
    ],
)
def test_another_image_is_not(known: str, asked: str) -> None:
    with pytest.raises(DataError, match="have no features; ids in the file look like"):
        IdMatcher([known], "file").rows([asked])


def test_an_exact_id_comes_before_a_likeness() -> None:
    assert IdMatcher(["a/1", "1", "b/1"], "file").rows(["1", "b/1"]) == [1, 2]
    assert IdMatcher(["007", "7"], "file").rows(["7"]) == [1]


def test_the_first_missing_are_named_with_what_the_file_has() -> None:
    matcher = IdMatcher([f"images/{n}.jpg" for n in range(5)], "f.npz")
    with pytest.raises(DataError) as caught:
        matcher.rows(["images/1.jpg", "x", "y", "z", "w"])
    assert str(caught.value) == (
        "f.npz: 4 images ('x', 'y', 'z', ...) of 5 have no features; ids in the file look like 'images/0.jpg', "
        "'images/1.jpg', 'images/2.jpg'"
    )


def test_nothing_is_guessed() -> None:
    with pytest.raises(DataError, match="image id '1' may mean 'a/1' and 'b/1'; name it in full"):
        IdMatcher(["a/1", "b/1"], "file").rows(["1"])
    with pytest.raises(DataError, match="'a/1' and 'b/1' would both take the features of '1'"):
        IdMatcher(["1"], "file").rows(["a/1", "b/1"])


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8, unique=True))
def test_exact_ids_are_always_found(ids: list[str]) -> None:
    assert IdMatcher(ids, "file").rows(ids[::-1]) == list(range(len(ids)))[::-1]

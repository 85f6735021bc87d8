"""Folds by artwork: a partition that no artwork crosses, the same on every machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heritage_align.errors import DataError
from heritage_align.evaluation.folds import artwork_folds


@st.composite
def collections(draw: st.DrawFn) -> tuple[dict[str, str], int]:
    k = draw(st.integers(2, 5))
    sizes = draw(st.lists(st.integers(1, 6), min_size=4 * k, max_size=30))
    artworks = [f"a{number}" for number, size in enumerate(sizes) for _ in range(size)]
    order = draw(st.permutations(range(len(artworks))))
    return {f"p{place}": artworks[number] for place, number in enumerate(order)}, k


@given(collections(), st.integers(0, 5), st.sampled_from([0.0, 0.1, 0.3]))
def test_folds_partition_pictures_and_split_no_artwork(
    case: tuple[dict[str, str], int], seed: int, validation: float
) -> None:
    artwork_of, k = case
    folds = artwork_folds(artwork_of, k, seed=seed, validation=validation)
    assert sorted(i for fold in folds for i in fold.test) == sorted(artwork_of)
    largest = max(list(artwork_of.values()).count(a) for a in set(artwork_of.values()))
    tests = [len(fold.test) for fold in folds]
    assert max(tests) - min(tests) <= largest
    for fold in folds:
        parts = [fold.train, fold.val, fold.test]
        assert sorted(i for part in parts for i in part) == sorted(artwork_of)
        artworks = [{artwork_of[i] for i in part} for part in parts]
        assert sum(map(len, artworks)) == len(set(artwork_of.values()))
        assert fold.train
        assert bool(fold.val) == bool(validation)
        # Artworks of at most `largest` pictures can miss the wanted number by half of one, or be one too many.
        assert abs(len(fold.val) - validation * (len(artwork_of) - len(fold.test))) <= largest


@given(collections(), st.randoms(use_true_random=False))
def test_the_order_of_the_pictures_does_not_matter(case: tuple[dict[str, str], int], random) -> None:  # type: ignore[no-untyped-def]
    artwork_of, k = case
    items = list(artwork_of.items())
    random.shuffle(items)

    def parts(groups: dict[str, str]) -> list[list[set[str]]]:
        return [[set(f.train), set(f.val), set(f.test)] for f in artwork_folds(groups, k, seed=3)]

    assert parts(artwork_of) == parts(dict(items))


def test_equal_artworks_make_equal_folds_and_seeds_differ() -> None:
    artwork_of = {f"{a}-{v}": str(a) for a in range(20) for v in range(3)}
    folds = artwork_folds(artwork_of, 4, seed=0, validation=0.2)
    assert [(len(f.train), len(f.val), len(f.test)) for f in folds] == [(36, 9, 15)] * 4
    assert folds == artwork_folds(artwork_of, 4, seed=0, validation=0.2)
    assert folds != artwork_folds(artwork_of, 4, seed=1, validation=0.2)


def test_the_split_is_pinned() -> None:
    """Numbers of a paper depend on it: it must not change with a version of Python or of this file."""
    folds = artwork_folds([f"dish{n}" for n in range(6)], 3, validation=0.25)
    assert [f.test for f in folds] == [("dish4", "dish5"), ("dish0", "dish3"), ("dish1", "dish2")]
    assert [f.val for f in folds] == [("dish3",), ("dish1",), ("dish5",)]


def test_large_artworks_come_first() -> None:
    """5, 3, 2, 2 pictures in 2 folds: 5 | 3, then 2 | 3 + 2, then 5 + 2 | 5: 7 and 5."""
    artwork_of = {f"{name}{n}": name for name, size in {"w": 2, "x": 5, "y": 2, "z": 3}.items() for n in range(size)}
    folds = artwork_folds(artwork_of, 2, validation=0)
    assert sorted(len(f.test) for f in folds) == [5, 7]
    assert {i[0] for i in folds[0].test} & {"x"}
    assert {i[0] for i in folds[1].test} & {"z"}


@pytest.mark.parametrize(
    ("groups", "settings", "message"),
    [
        (["a", "b", "c"], {}, "4 folds need 4 artworks, there are 3 .3 pictures."),
        ({"p": "a", "q": "a"}, {"k": 2}, "need 2 artworks, there are 1 .2 pictures."),
        ([], {}, "there are 0"),
        (["a", "b"], {"k": 2}, "fold 0: 1 artworks outside its test part are too few .* part of 10%"),
        (["a", "b"], {"k": 1}, "at least 2 folds, got 1"),
        (["a", "b"], {"k": 2, "validation": 1.0}, r"a share in \[0, 1\), got 1.0"),
        (["a", "a"], {"k": 2}, "an image id occurs twice"),
    ],
)
def test_what_cannot_be_split_is_refused_with_its_numbers(groups: object, settings: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        artwork_folds(groups, **settings)  # type: ignore[arg-type]


def test_two_artworks_can_be_split_without_validation() -> None:
    folds = artwork_folds(["a", "b"], 2, validation=0)
    assert {(f.train, f.val, f.test) for f in folds} == {(("a",), (), ("b",)), (("b",), (), ("a",))}

"""Parts of a data set, and holding one out by artwork."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from heritage_align.data.subset import Subset, artworks, hold_out
from heritage_align.errors import DataError
from heritage_align.types import GoldenPair, TextItem


class Vases:
    """Pictures of vases, several of one vase, a text for each and one for two of them."""

    name = "vases"

    def __init__(self, artwork_of: dict[str, str]) -> None:
        self.artwork_of = artwork_of
        self.image_ids = tuple(artwork_of)
        first, last = self.image_ids[0], self.image_ids[-1]
        self.texts = (
            *(TextItem(f"t{i}", "a vase", (i,)) for i in self.image_ids),
            TextItem("both", "two vases", (first, last)),
            TextItem("none", "no vase"),
        )
        self.golden = tuple(GoldenPair(i, (0, 0, 1, 1), ("a handle",)) for i in self.image_ids)

    def load_image(self, image_id: str) -> Image.Image:
        return Image.new("RGB", (int(image_id[1:]) + 1, 1))


def vases(count: int, views: int = 1) -> Vases:
    return Vases({f"i{n}": f"vase {n // views}" for n in range(count)})


def test_a_part_has_its_own_texts_and_golden_pairs() -> None:
    part = Subset(vases(4, views=2), ["i3", "i0"], "part")
    assert part.image_ids == ("i0", "i3")  # in the order of the whole
    assert [item.id for item in part.texts] == ["ti0", "ti3", "both"]
    assert [pair.image_id for pair in part.golden] == ["i0", "i3"]
    assert part.artwork_of == {"i0": "vase 0", "i3": "vase 1"}
    assert part.load_image("i3").size == (4, 1)
    assert repr(part) == "Subset('part', 2 images, 3 texts)"
    assert [item.id for item in Subset(vases(4), ["i0"], "part").texts] == ["ti0"]  # "both" is of i3 too


def test_pictures_of_another_part_are_refused() -> None:
    part = Subset(vases(4), ["i1"], "part")
    with pytest.raises(DataError, match="part: has no image 'i0'"):
        part.load_image("i0")
    with pytest.raises(DataError, match=r"part: has no image 'x' \(vases has 4\)"):
        Subset(vases(4), ["i0", "x"], "part")
    with pytest.raises(DataError, match="part: the part holds no picture"):
        Subset(vases(4), [], "part")


def test_without_artworks_a_picture_is_its_own() -> None:
    data = vases(3)
    del data.artwork_of
    assert artworks(data) == {"i0": "i0", "i1": "i1", "i2": "i2"}


@given(count=st.integers(2, 30), views=st.integers(1, 3), share=st.floats(0, 0.99))
def test_parts_share_no_artwork_and_lose_no_picture(count: int, views: int, share: float) -> None:
    data = vases(count, views)
    wanted = round(share * len(set(data.artwork_of.values())))
    if wanted == len(set(data.artwork_of.values())):
        with pytest.raises(DataError, match="artworks are too few to hold out a share of"):
            hold_out(data, share)
        return
    train, held = hold_out(data, share)
    if held is None:
        assert train is data
        assert wanted == 0
        return
    assert sorted([*train.image_ids, *held.image_ids]) == sorted(data.image_ids)
    assert not set(artworks(train).values()) & set(artworks(held).values())
    assert len(set(artworks(held).values())) == wanted


def test_the_held_part_depends_on_no_order_and_grows_with_the_share() -> None:
    forwards, backwards = vases(20, 2), Vases(dict(reversed(list(vases(20, 2).artwork_of.items()))))
    parts = [hold_out(data, 0.3)[1] for data in (forwards, backwards)]
    assert parts[0] is not None
    assert parts[1] is not None
    assert set(parts[0].image_ids) == set(parts[1].image_ids)
    more = hold_out(forwards, 0.6)[1]
    assert more is not None
    assert set(parts[0].image_ids) < set(more.image_ids)

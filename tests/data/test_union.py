"""Several data sets as one."""

from __future__ import annotations

import pytest
from PIL import Image

from heritage_align.data.subset import artworks
from heritage_align.data.union import Union, union_parts
from heritage_align.errors import DataError
from heritage_align.types import GoldenPair, TextItem


class Vases:
    """Vases of some names, as wide as the number they are given."""

    def __init__(self, name: str, *ids: str, width: int = 1) -> None:
        self.name, self.image_ids, self._width = name, ids, width
        self.texts = tuple(TextItem(f"{i}#0", f"vase {i}", (i,)) for i in ids)
        self.golden = tuple(GoldenPair(i, (0, 0, 1, 1), ("handle",)) for i in ids)

    def load_image(self, image_id: str) -> Image.Image:
        return Image.new("RGB", (self._width, 1))


def test_parts_follow_one_another_and_load_their_own_pictures() -> None:
    both = Union([Vases("clay", "a", "b"), Vases("glass", "c", width=3)])
    assert both.name == "clay+glass"
    assert both.image_ids == ("a", "b", "c")
    assert [item.id for item in both.texts] == ["a#0", "b#0", "c#0"]
    assert [pair.image_id for pair in both.golden] == ["a", "b", "c"]
    assert [both.load_image(i).width for i in "abc"] == [1, 1, 3]
    assert union_parts(both) == {"a": 0, "b": 0, "c": 1}
    assert artworks(both) == {"a": "a", "b": "b", "c": "c"}
    assert repr(both) == "Union('clay+glass', 3 images, 3 texts)"


def test_an_artwork_of_two_parts_is_one() -> None:
    front, back = Vases("front", "f"), Vases("back", "b")
    front.artwork_of, back.artwork_of = {"f": "vase 1"}, {"b": "vase 1"}  # type: ignore[attr-defined]
    assert set(Union([front, back]).artwork_of.values()) == {"vase 1"}


def test_what_is_no_union_is_all_of_one_source() -> None:
    assert union_parts(Vases("clay", "a", "b")) == {"a": 0, "b": 0}


def test_faults_are_named() -> None:
    with pytest.raises(DataError, match="image 'b' is in two of its parts, clay and glass"):
        Union([Vases("clay", "a", "b"), Vases("glass", "b")])
    glass = Vases("glass", "c")
    glass.texts = (TextItem("a#0", "glass", ("c",)),)
    with pytest.raises(DataError, match="text 'a#0' is in two of its parts, clay and glass"):
        Union([Vases("clay", "a"), glass])
    with pytest.raises(DataError, match="union: of no data set"):
        Union([])
    with pytest.raises(DataError, match=r"clay\+glass: has no image 'x'"):
        Union([Vases("clay", "a"), Vases("glass", "b")]).load_image("x")

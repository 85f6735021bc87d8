"""Random crops of pictures under their pictures' texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heritage_align.data import Cropped
from heritage_align.errors import DataError
from heritage_align.types import GoldenPair, TextItem


class Scrolls:
    """Scrolls of any size; the red of a pixel is its column, the green its row. The last one has no text."""

    name = "scrolls"

    def __init__(self, width: int = 200, height: int = 50, told: int = 2) -> None:
        self._size = width, height
        self.image_ids = tuple(f"s{k}" for k in range(told + 1))
        self.texts = (
            *(TextItem(f"t{k}", f"caption {k}", (f"s{k}",), ("crane",), "en") for k in range(told)),
            TextItem("both", "two scrolls", (*(f"s{k}" for k in range(told)), "elsewhere")),
            TextItem("none", "of nothing"),
        )
        self.golden = (GoldenPair("s0", (0, 0, 10, 10), ("crane",)),)
        self.artwork_of = dict.fromkeys(self.image_ids, "roll")
        self.loads = 0

    def load_image(self, image_id: str) -> Image.Image:
        self.loads += 1
        row, column = np.mgrid[: self._size[1], : self._size[0]].astype(np.uint8)
        return Image.fromarray(np.stack([column, row, np.zeros_like(row)], -1))


def test_crops_have_the_texts_of_their_pictures_and_pictures_without_any_have_none() -> None:
    cropped = Cropped(Scrolls(), each=2)
    assert cropped.image_ids == ("s0/crop-0", "s0/crop-1", "s1/crop-0", "s1/crop-1")
    assert [(item.id, item.text, item.image_ids) for item in cropped.texts] == [
        ("crop: t0", "caption 0", ("s0/crop-0", "s0/crop-1")),
        ("crop: t1", "caption 1", ("s1/crop-0", "s1/crop-1")),
        ("crop: both", "two scrolls", cropped.image_ids),
    ]
    assert cropped.texts[0].phrases == ("crane",)
    assert cropped.texts[0].language == "en"
    assert cropped.golden == ()
    assert set(cropped.artwork_of.values()) == {"roll"}
    assert repr(cropped) == "Cropped('scrolls/cropped', 4 images, 3 texts)"


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255), st.integers(1, 255), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_crop_is_a_part_of_its_picture_in_its_proportions(
    seed: int, width: int, height: int, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    cropped = Cropped(Scrolls(width, height), scale=(low, high), seed=seed)
    for crop in cropped.image_ids:
        pixels = np.asarray(cropped.load_image(crop)).astype(int)
        down, across = pixels.shape[:2]
        (left, top, _), (right, bottom, _) = pixels[0, 0], pixels[-1, -1] + 1
        assert (right - left, bottom - top) == (across, down)  # the columns and rows are the picture's own
        for side, of in ((across, width), (down, height)):
            assert max(1, low**0.5 * of - 0.51) <= side <= max(1, high**0.5 * of + 0.51)
        if min(across, down) > 20:
            assert across / down == pytest.approx(width / height, rel=0.06)


def test_the_whole_picture_is_a_crop_of_all_of_it() -> None:
    assert Cropped(Scrolls(), scale=(1.0, 1.0)).load_image("s1/crop-0").size == (200, 50)


def test_crops_lie_everywhere_and_areas_are_drawn_evenly() -> None:
    cropped = Cropped(Scrolls(100, 100), each=400, scale=(0.2, 0.6))
    pictures = [cropped.load_image(crop) for crop in cropped.image_ids[:400]]
    areas = np.array([picture.width * picture.height / 10_000 for picture in pictures])
    assert areas.mean() == pytest.approx(0.4, abs=0.03)
    corners = np.array([picture.getpixel((0, 0))[:2] for picture in pictures])  # type: ignore[index]
    free = 100 - np.array([picture.size for picture in pictures])
    assert (corners / free).mean(0) == pytest.approx([0.5, 0.5], abs=0.06)


def test_a_seed_gives_its_crops_and_a_picture_is_loaded_once_as_long_as_it_is_kept() -> None:
    scrolls = Scrolls()
    boxes = []
    for seed in (0, 0, 1):
        cropped = Cropped(scrolls, each=3, seed=seed, kept_mib=1)
        boxes.append([np.asarray(cropped.load_image(crop)).tobytes() for crop in cropped.image_ids])
    assert boxes[0] == boxes[1]
    assert boxes[0] != boxes[2]
    assert scrolls.loads == 3 * 2


def test_faults_are_named() -> None:
    with pytest.raises(DataError, match="scrolls/cropped: scale: expected two ascending shares"):
        Cropped(Scrolls(), scale=(0.5, 0.3))
    with pytest.raises(DataError, match="scrolls/cropped: no picture of scrolls has a text"):
        Cropped(Scrolls(told=0))
    with pytest.raises(DataError, match="scrolls/cropped: has no image 's0'"):
        Cropped(Scrolls()).load_image("s0")

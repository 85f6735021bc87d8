"""Details cut around golden regions, and the words they are given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heritage_align.data.details import TIGHT, WIDEST, Details
from heritage_align.data.motifs import Motifs
from heritage_align.errors import DataError
from heritage_align.types import GoldenPair, TextItem

GROUND = (0.0, 0.0, 100.0, 100.0)
FISH = (10.0, 10.0, 30.0, 30.0)
BIRDS = ((60.0, 10.0, 80.0, 30.0), (60.0, 60.0, 80.0, 80.0))


class Plates:
    """Plates of one artwork, a hundred pixels wide; the red of a pixel is its column, the green its row."""

    name = "plates"

    def __init__(self, *pairs: tuple[tuple[float, float, float, float], tuple[str, ...]], images: int = 1) -> None:
        self.image_ids = tuple(f"i{k}" for k in range(images))
        self.texts: tuple[TextItem, ...] = ()
        self.artwork_of = dict.fromkeys(self.image_ids, "plate")
        self.golden = tuple(GoldenPair(i, box, phrases) for i in self.image_ids for box, phrases in pairs)
        self.loads = 0

    def load_image(self, image_id: str) -> Image.Image:
        self.loads += 1
        row, column = np.mgrid[:100, :100].astype(np.uint8)
        return Image.fromarray(np.stack([column, row, np.zeros_like(row)], -1))


def two_languages(*extra: tuple[tuple[float, float, float, float], tuple[str, ...]], images: int = 1) -> Plates:
    fish, bird = ("红鱼", "red fish"), ("蓝鸟", "blue birds")
    return Plates((GROUND, ("白地", "white ground")), (FISH, fish), *((b, bird) for b in BIRDS), *extra, images=images)


def texts_of(details: Details, image_id: str) -> set[str]:
    return {item.text for item in details.texts if image_id in item.image_ids}


def test_a_tight_detail_is_the_region_with_a_margin_of_a_twentieth() -> None:
    details = Details(Plates((FISH, ("鱼",)), (GROUND, ("地",))), each=1, spread=0)
    assert details.image_ids == ("i0/detail-0",)
    pixels = np.asarray(details.load_image("i0/detail-0"))
    assert pixels.shape == (22, 22, 3)  # 20 * 1.1
    assert pixels[0, 0].tolist() == [9, 9, 0]
    assert texts_of(details, "i0/detail-0") == {"鱼"}
    assert [(pair.box, pair.phrases) for pair in details.golden] == [((1, 1, 21, 21), ("鱼",))]


def test_phrases_are_drawn_before_places_and_details_of_one_name_share_their_texts() -> None:
    details = Details(two_languages(), each=400, spread=0)
    by_text = {item.text: len(item.image_ids) for item in details.texts}
    assert set(by_text) == {"红鱼", "red fish", "蓝鸟", "blue birds"}
    assert by_text["红鱼"] == by_text["red fish"]
    assert 160 < by_text["红鱼"] < 240  # half of them, though there are two places with birds
    lefts = {details.load_image(i).getpixel((0, 0)) for i in details.image_ids}
    assert {left for left, _, _ in lefts} == {9, 59}
    assert details.artwork_of[details.image_ids[0]] == "plate"


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0.1, 1))
def test_every_detail_shows_what_it_names_and_nothing_else_as_much(seed: int, spread: float, shown: float) -> None:
    plates = two_languages()
    details = Details(plates, each=3, spread=spread, shown=shown, seed=seed)
    for image_id in details.image_ids:
        pixels = np.asarray(details.load_image(image_id)).astype(int)
        (left, top, _), (right, bottom, _) = pixels[0, 0], pixels[-1, -1] + 1
        named = set()
        for pair in plates.golden[1:]:
            x0, y0, x1, y1 = pair.box
            common = max(0, min(right, x1) - max(left, x0)) * max(0, min(bottom, y1) - max(top, y0))
            if common >= shown * (x1 - x0) * (y1 - y0):
                named.add(pair.phrases[0])
        zh = next(text for text in texts_of(details, image_id) if not text.isascii())
        assert named
        assert set(zh.split("、")) == named
        assert max(right - left, bottom - top) <= np.ceil(20 * WIDEST) + 1
        assert min(right - left, bottom - top) >= np.floor(20 * TIGHT)


def test_the_ground_is_named_in_its_share_and_first() -> None:
    details = Details(two_languages(), each=300, spread=0, ground=0.3)
    whole = [item for item in details.texts if item.text.startswith("白地、")]
    assert 60 < sum(len(item.image_ids) for item in whole) < 120
    assert all("white ground, " in " ".join(texts_of(details, item.image_ids[0])) for item in whole)
    assert not any("白地" in item.text for item in Details(two_languages(), each=50).texts)


def test_a_picture_of_one_region_alone_is_its_detail() -> None:
    details = Details(Plates((GROUND, ("地",))), each=1)
    assert details.load_image(details.image_ids[0]).size == (100, 100)
    assert texts_of(details, details.image_ids[0]) == {"地"}


def test_a_region_with_fewer_phrases_lends_its_last() -> None:
    whole = Plates(((0, 0, 50, 100), ("鱼", "fish")), ((50, 0, 100, 100), ("鸟",)))
    details = Details(whole, each=30, spread=1, shown=0.1)
    found = {frozenset(texts_of(details, image_id)) for image_id in details.image_ids}
    assert {frozenset({"鱼、鸟", "fish、鸟"}), frozenset({"鸟、鱼", "鸟、fish"})} <= found


def test_the_same_seed_gives_the_same_details_and_another_others() -> None:
    one, same, other = (Details(two_languages(), each=9, seed=seed) for seed in (0, 0, 1))
    assert one.golden == same.golden
    assert one.texts == same.texts
    assert one.golden != other.golden


def test_a_picture_is_loaded_once_as_long_as_it_is_kept() -> None:
    kept, dropped = two_languages(images=2), two_languages(images=2)
    for details in (Details(kept, each=3, kept_mib=1), Details(dropped, each=3, kept_mib=0)):
        for _ in range(2):
            for image_id in details.image_ids:
                details.load_image(image_id)
    assert kept.loads == 2
    assert dropped.loads == 12


def test_faults_are_named() -> None:
    with pytest.raises(DataError, match="plates/details: no picture of plates has a golden region"):
        Details(Plates())
    details = Details(two_languages(), each=1)
    with pytest.raises(DataError, match="plates/details: has no image 'i0'"):
        details.load_image("i0")
    outside = Details(Plates(((200, 200, 220, 220), ("鱼",))), each=1)
    with pytest.raises(DataError, match=r"golden regions of 'i0' lie outside its \(100, 100\) pixels"):
        outside.load_image("i0/detail-0")


def test_details_of_motifs_have_both_languages() -> None:
    motifs = Motifs("val", artworks=2, variants=1)
    details = Details(motifs, each=4)
    assert len(details.image_ids) == 8
    assert all(len(texts_of(details, image_id)) == 2 for image_id in details.image_ids)
    assert repr(details) == f"Details('motifs-val/details', 8 images, {len(details.texts)} texts)"

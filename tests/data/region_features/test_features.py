"""Choosing regions: by hand, and everything that is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heritage_align.data.region_features import RegionFeatures, features_of_regions
from heritage_align.data.region_features.checks import SHORTEST_SIDE
from heritage_align.errors import DataError
from heritage_align.types import Regions


def test_the_best_come_first_and_equal_ones_keep_their_order(toy: RegionFeatures) -> None:
    chosen = toy.select(["a/3.jpg", "a/1.jpg"], count=2)
    assert chosen.ids == ("a/3.jpg", "a/1.jpg")
    assert chosen.offsets.tolist() == [0, 2, 4]
    # Of image 3 the rows 2, 3, 4 have 0.5, 0.7, 0.5; of image 1 the rows 0, 1 have 0.1, 0.9.
    assert chosen.values[:, 0].tolist() == [12, 8, 4, 0]
    assert chosen.objectness is not None
    np.testing.assert_allclose(chosen.objectness, [0.7, 0.5, 0.9, 0.1])
    np.testing.assert_array_equal(chosen.boxes, toy.boxes[[3, 2, 1, 0]])
    assert chosen.global_features is not None
    assert chosen.global_features[:, 0].tolist() == [-8, 0]


def test_all_of_them_keep_the_files_order(toy: RegionFeatures) -> None:
    assert toy.select(["a/3.jpg"]).values[:, 0].tolist() == [8, 12, 16]
    unscored = replace(toy, objectness=None)
    assert unscored.select(["a/3.jpg"], count=2).values[:, 0].tolist() == [8, 12]


def test_without_global_features_the_mean_of_all_regions_stands_for_them(toy: RegionFeatures) -> None:
    chosen = replace(toy, global_features=None).select(["a/3.jpg"], count=1)
    assert chosen.global_features is not None
    # Rows (8..11), (12..15), (16..19), not only the one that is taken.
    assert chosen.global_features.tolist() == [[12, 13, 14, 15]]


def test_an_image_without_regions_is_an_error_or_its_own_region(toy: RegionFeatures) -> None:
    with pytest.raises(DataError, match=r"toy: 1 image \('a/2.jpg'\) without regions$"):
        toy.select(["a/1.jpg", "a/2.jpg"])
    chosen = toy.select(["a/2.jpg", "a/1.jpg", "a/3.jpg"], count=1, empty="whole")
    assert chosen.offsets.tolist() == [0, 1, 2, 3]
    assert chosen.values[:, 0].tolist() == [-4, 4, 12]
    assert chosen.boxes[0].tolist() == [0, 0, 1, 1]
    assert chosen.objectness is not None
    np.testing.assert_allclose(chosen.objectness, [0, 0.9, 0.7])
    with pytest.raises(DataError, match=r"'a/2.jpg'\) without regions, and the file has no global features"):
        replace(toy, global_features=None).select(["a/2.jpg"], empty="whole")


def test_regions_have_features_in_single_precision_and_fractions(toy: RegionFeatures) -> None:
    one, two = toy.select(["a/1.jpg", "a/3.jpg"]).regions()
    assert isinstance(one, Regions)
    assert one.features is not None
    assert one.global_feature is not None
    assert one.features.dtype == one.global_feature.dtype == one.boxes.dtype == np.float32
    assert one.features.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert two.global_feature is not None
    assert two.global_feature.tolist() == [-8, -9, -10, -11]
    assert two.keep is not None
    assert two.keep.tolist() == [False, True, True]


def test_keypoints_narrow_the_mask_and_never_empty_it(toy: RegionFeatures) -> None:
    masked = toy.mask_by_keypoints(2)
    # Keypoints 0, 2 | 5, 1, 2, of which the file masks the 5.
    assert masked.keep is not None
    assert masked.keep.tolist() == [False, True, False, False, True]
    none = toy.mask_by_keypoints(99)
    assert none.keep is not None
    assert toy.keep is not None
    assert none.keep.tolist() == toy.keep.tolist()
    with pytest.raises(DataError, match="toy: has no 'keypoints'"):
        replace(toy, keypoints=None).mask_by_keypoints(2)


def test_an_image_that_is_masked_altogether_keeps_all(toy: RegionFeatures) -> None:
    masked = replace(toy, keep=np.array([False, False, True, False, True]))
    keeps = [found.keep for found in masked.select(["a/1.jpg", "a/3.jpg"]).regions()]
    assert [keep.tolist() for keep in keeps if keep is not None] == [[True, True], [True, False, True]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_name_image_and_region(toy: RegionFeatures, value: float) -> None:
    values = toy.values.copy()
    values[3, 1] = values[4, 0] = value
    broken = replace(toy, values=values)
    with pytest.raises(DataError, match=r"toy: image 'a/3.jpg', region 1: features are NaN or infinite \(2 rows are\)"):
        broken.select(["a/1.jpg", "a/3.jpg"], count=3)
    assert len(broken.select(["a/1.jpg"])) == 1
    whole = -np.ones((3, 4), dtype=np.float32)
    whole[2] = value
    with pytest.raises(DataError, match="toy: image 'a/3.jpg': global features are NaN or infinite$"):
        replace(toy, global_features=whole).select(["a/3.jpg"])


BOX = np.array([[0.1, 0.1, 0.5, 0.5]] * 5, dtype=np.float32)


def with_box(*box: float) -> Any:
    boxes = BOX.copy()
    boxes[3] = box
    return boxes


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ids": ("a", "b", "a")}, "image id 'a' occurs twice"),
        ({"ids": ("a", " ", "c")}, "' ' is no image id"),
        ({"ids": ("a", 3, "c")}, "3 is no image id"),
        ({"ids": ("a", "b")}, r"'offsets' is int64 \(4,\), expected 3 integers"),
        ({"offsets": np.array([0, 3, 2, 5])}, "'offsets' do not ascend: 3 is followed by 2"),
        ({"offsets": np.array([0, 2, 2, 4])}, "'offsets' go from 0 to 4, the regions from 0 to 5"),
        ({"offsets": np.array([1, 2, 2, 5])}, "'offsets' go from 1 to 5"),
        ({"offsets": np.array([0.0, 2, 2, 5])}, "'offsets' is float64"),
        ({"values": np.zeros((5, 4), dtype=np.int64)}, "'values' holds int64, expected floating numbers"),
        ({"values": np.zeros((5, 4, 1))}, r"'values' has shape \(5, 4, 1\), expected \(rows, dim\)"),
        ({"values": np.zeros((5, 0))}, r"'values' has shape \(5, 0\)"),
        ({"boxes": BOX[:4]}, r"'boxes' is float32 \(4, 4\), expected floating numbers \(5, 4\)"),
        ({"boxes": with_box(0.5, 0.1, 0.4, 0.5)}, r"image 'a/3.jpg', region 1: box \[0.5, .* is no box"),
        ({"boxes": with_box(0.1, 0.1, 0.4, 1.1)}, "image 'a/3.jpg', region 1: box"),
        ({"boxes": with_box(0.1, np.nan, 0.4, 0.5)}, "image 'a/3.jpg', region 1: box"),
        ({"objectness": np.zeros(4)}, "'objectness' is float64"),
        ({"objectness": np.array([0, 1, np.nan, 1, 1])}, "'objectness' of row 2 is not finite"),
        ({"keypoints": np.zeros(5)}, "'keypoints' is float64"),
        ({"keep": np.zeros(5, dtype=np.int8)}, "'keep' is int8"),
        ({"global_features": np.zeros((3, 5))}, r"'global' has shape \(3, 5\), expected \(3, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused(toy: RegionFeatures, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=f"^toy: {reason}"):
        replace(toy, **change)


def test_boxes_are_clipped_where_rounding_explains_it_and_never_empty(toy: RegionFeatures) -> None:
    boxes = replace(toy, boxes=with_box(-0.0005, 1, 0, 1.0005)).boxes
    assert boxes[3].tolist() == pytest.approx([0, 1 - SHORTEST_SIDE, SHORTEST_SIDE, 1])


@given(
    corners=st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), size=st.tuples(st.integers(1), st.integers(1))
)
def test_any_box_has_an_inside_in_pixels(corners: list[float], size: tuple[int, int]) -> None:
    width, height = (side % 10_000 + 1 for side in size)
    x0, x1 = sorted(corners[:2])
    y0, y1 = sorted(corners[2:])
    box = np.array([[x0, y0, x1, y1]], dtype=np.float32)
    found = RegionFeatures("one", ("a",), np.array([0, 1]), np.zeros((1, 1), dtype=np.float32), box)
    left, top, right, bottom = (found.boxes[0] * np.array([width, height] * 2, dtype=np.float32)).tolist()
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_what_a_proposer_found_is_kept(toy: RegionFeatures) -> None:
    chosen = toy.select(["a/1.jpg", "a/3.jpg"])
    sizes = [(20, 10), (7, 300)]
    found = chosen.regions()
    for regions, (width, height) in zip(found, sizes):
        regions.boxes = regions.boxes * np.array([width, height] * 2, dtype=np.float32)
    again = features_of_regions(chosen.ids, found, sizes)
    np.testing.assert_allclose(again.boxes, chosen.boxes, atol=1e-6)
    np.testing.assert_array_equal(again.values, chosen.values)
    np.testing.assert_array_equal(again.offsets, chosen.offsets)
    for name in ("objectness", "global_features", "keep"):
        np.testing.assert_array_equal(getattr(again, name), getattr(chosen, name))
    found[1].features = None
    with pytest.raises(DataError, match="image 'a/3.jpg': its regions came without features"):
        features_of_regions(chosen.ids, found, sizes)

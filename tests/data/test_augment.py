"""Changed copies of regions: what is drawn, what stays, and the two forms of training with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heritage_align.data.augment import Augmentation, augment_image
from heritage_align.data.region_copies import region_copies, with_copies
from heritage_align.errors import DataError
from heritage_align.types import Regions

NOTHING = Augmentation(0.0, 0.0, 0.0, 0.0, (0.0, 0.0), 1.0)
NOISE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (56, 40, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def plain(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (6, 4), colour)


def test_zero_strength_changes_nothing() -> None:
    for copy in range(5):
        changed = augment_image(NOISE, seed=copy, settings=NOTHING)
        assert changed is not NOISE
        np.testing.assert_array_equal(pixels(changed), pixels(NOISE))


@settings(deadline=None)
@given(st.integers(0, 2**40), st.text(max_size=5), st.integers(0, 9), st.integers(0, 9))
def test_a_copy_depends_on_its_names_alone(seed: int, image_id: str, region: int, copy: int) -> None:
    names = {"seed": seed, "image_id": image_id, "region": region, "copy": copy}
    first = augment_image(NOISE, **names)
    assert (first.size, first.mode) == (NOISE.size, "RGB")
    assert (pixels(first) != pixels(NOISE)).any()
    np.testing.assert_array_equal(pixels(first), pixels(augment_image(NOISE, **names)))
    for name, other in (("seed", seed + 1), ("image_id", image_id + "x"), ("region", region + 1), ("copy", copy + 1)):
        assert (pixels(augment_image(NOISE, **{**names, name: other})) != pixels(first)).any(), name


def factors(settings: Augmentation, image: Image.Image, channel: int, copies: int = 300) -> np.ndarray:
    """Return the first pixel of many copies, as a share of the original's."""
    values = [pixels(augment_image(image, seed=0, copy=c, settings=settings))[0, 0, channel] for c in range(copies)]
    return np.array(values) / pixels(image)[0, 0, channel]


def test_brightness_fills_its_range() -> None:
    found = factors(replace(NOTHING, brightness=0.4), plain((100, 100, 100)), 0)
    assert 0.59 <= found.min() < 0.63
    assert 1.37 < found.max() <= 1.4


def test_saturation_leaves_grey_alone_and_moves_colours() -> None:
    only = replace(NOTHING, saturation=0.4)
    assert (factors(only, plain((100, 100, 100)), 0) == 1.0).all()
    # Luminance of (120, 60, 60) is 0.299 * 120 + 0.701 * 60 = 78: red goes from 78 + 0.6 * 42 to 78 + 1.4 * 42.
    found = factors(only, plain((120, 60, 60)), 0) * 120
    assert 103 <= found.min() <= 105
    assert 134 <= found.max() <= 137


def test_contrast_pulls_to_and_from_the_mean() -> None:
    halves = Image.fromarray(np.repeat([[[80] * 3], [[120] * 3]], 4, axis=1).astype(np.uint8))
    found = factors(replace(NOTHING, contrast=0.5), halves, 0) * 80
    assert 70 <= found.min() < 72  # 100 - 1.5 * 20
    assert 88 < found.max() <= 90  # 100 - 0.5 * 20


def test_hue_turns_red_towards_its_neighbours_and_leaves_grey() -> None:
    only = replace(NOTHING, hue=0.1)
    shifted = [augment_image(plain((200, 0, 0)), seed=0, copy=c, settings=only).getpixel((0, 0)) for c in range(100)]
    # A tenth of a turn from red: green (or blue) rises to 0.6 of red, and never both.
    assert max(green for _, green, _ in shifted) > 100
    assert max(blue for _, _, blue in shifted) > 100
    assert all(red >= 199 and min(green, blue) <= 1 and max(green, blue) <= 125 for red, green, blue in shifted)
    assert (factors(only, plain((90, 90, 90)), 1) == 1.0).all()


def test_blur_is_scaled_to_the_region_and_hits_its_share() -> None:
    only = replace(NOTHING, blur=(2.0, 2.0))
    edge = np.zeros((224, 224, 3), dtype=np.uint8)
    edge[:, 112:] = 255
    image = Image.fromarray(edge)

    def width(picture: Image.Image) -> float:
        """Return the standard deviation of the edge's derivative, in pixels."""
        step = np.diff(pixels(picture)[picture.height // 2, :, 0]) / 255
        places = np.arange(len(step))
        mean = (places * step).sum()
        return float(np.sqrt(((places - mean) ** 2 * step).sum()))

    assert width(augment_image(image, seed=0, settings=only)) == pytest.approx(2.0, abs=0.1)
    assert width(augment_image(image.resize((448, 448), 0), seed=0, settings=only)) == pytest.approx(4.0, abs=0.1)
    half = replace(only, blur_share=0.5)
    blurred = sum(
        (pixels(augment_image(NOISE, seed=0, copy=c, settings=half)) != pixels(NOISE)).any() for c in range(200)
    )
    assert 75 <= blurred <= 125


def test_one_change_does_not_move_the_draws_of_another() -> None:
    alone = factors(replace(NOTHING, brightness=0.4), plain((100, 100, 100)), 0, 20)
    beside = factors(replace(NOTHING, brightness=0.4, hue=0.1, saturation=0.3), plain((100, 100, 100)), 0, 20)
    np.testing.assert_array_equal(alone, beside)


def test_copies_of_regions_come_region_by_region() -> None:
    boxes = np.array([[0.4, 0, 10, 20.5], [3, 3, 3.2, 3.4]], dtype=np.float32)
    copies = region_copies(NOISE, boxes, seed=1, image_id="a", count=2)
    assert [copy.size for copy in copies] == [(10, 20), (10, 20), (1, 1), (1, 1)]
    expected = augment_image(NOISE.crop((0, 0, 10, 20)), seed=1, image_id="a", region=0, copy=1)
    np.testing.assert_array_equal(pixels(copies[1]), pixels(expected))


def regions(**fields: object) -> Regions:
    boxes = np.array([[0, 0, 1, 1], [2, 2, 3, 3]], dtype=np.float32)
    features = np.array([[1, 0], [0, 1]], dtype=np.float32)
    return replace(Regions(boxes, features=features, global_feature=np.ones(2, dtype=np.float32)), **fields)


COPIES = np.array([[3, 0], [5, 0], [0, 3], [0, 5]], dtype=np.float32)


def test_copies_as_regions_of_their_own() -> None:
    joined = with_copies(regions(scores=np.array([0.9, 0.1]), keep=np.array([True, False])), COPIES, "add")
    assert joined.features is not None
    assert joined.scores is not None
    assert joined.keep is not None
    assert joined.features.tolist() == [[1, 0], [3, 0], [5, 0], [0, 1], [0, 3], [0, 5]]
    assert joined.boxes[:, 0].tolist() == [0, 0, 0, 2, 2, 2]
    assert joined.scores.tolist() == [0.9] * 3 + [0.1] * 3
    assert joined.keep.tolist() == [True] * 3 + [False] * 3
    assert joined.global_feature is not None


def test_the_mean_of_a_region_and_its_copies() -> None:
    joined = with_copies(regions(), COPIES, "mean")
    assert joined.features is not None
    assert joined.features.tolist() == [[3, 0], [0, 3]]
    assert joined.features.dtype == np.float32
    assert len(joined.boxes) == 2
    assert with_copies(regions(), np.empty((0, 2), dtype=np.float32), "mean").features.tolist() == [[1, 0], [0, 1]]


def test_copies_that_do_not_fit() -> None:
    with pytest.raises(DataError, match=r"of each of 2 regions, 2 wide, got \(3, 2\)"):
        with_copies(regions(), COPIES[:3], "add")
    with pytest.raises(DataError, match="2 wide"):
        with_copies(regions(), COPIES[:, :1], "mean")
    with pytest.raises(DataError, match="have no features"):
        with_copies(regions(features=None), COPIES, "add")


def test_settings_out_of_range_are_named_at_once() -> None:
    with pytest.raises(DataError, match=r"contrast: expected 0..1, got 2.*hue: expected 0..0.5, got 0.6.*blur: "):
        Augmentation(contrast=2, hue=0.6, blur=(2, 1))
    with pytest.raises(DataError, match=r"image 'a': expected an RGB picture, got L"):
        augment_image(NOISE.convert("L"), seed=0, image_id="a")

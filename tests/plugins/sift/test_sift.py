"""The SIFT filter: counts, the >= of eq. 11, both modes, and what happens when nothing would be left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heritage_align_plugins.sift.config import SiftConfig
from heritage_align_plugins.sift.filter import SiftFilter
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter
from pydantic import ValidationError
from safetensors import safe_open

from heritage_align.protocols import BuildContext, Filter
from heritage_align.testing import parametrize_with_checks
from heritage_align.types import Regions

DATA = Path(__file__).parents[4] / "shared" / "data"


def sift(**settings: Any) -> SiftFilter:
    return SiftFilter(SiftConfig(**settings), BuildContext())


def boxes(*rows: tuple[float, float, float, float]) -> Regions:
    return Regions(np.array(rows, dtype=np.float32))


@pytest.fixture(scope="module")
def half_empty() -> Image.Image:
    """Noise of 4-pixel blocks on the left half, plain grey on the right."""
    blocks = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    pixels = np.full((64, 128), 128, dtype=np.uint8)
    pixels[:, :64] = np.kron(blocks, np.ones((4, 4), dtype=np.uint8))
    return Image.fromarray(pixels).convert("RGB")


LEFT, RIGHT, WHOLE = (0, 0, 64, 64), (72, 0, 128, 64), (0, 0, 128, 64)


@pytest.mark.parametrize("mode", ["per_crop", "per_image"])
def test_plain_regions_are_masked(mode: str, half_empty: Image.Image) -> None:
    step = sift(mode=mode)
    assert isinstance(step, Filter)
    assert step.attention == {}
    regions = boxes(LEFT, RIGHT, WHOLE)
    (found,) = step.apply([half_empty], [regions])
    assert found.keep is not None
    assert found.keep.dtype == bool
    assert found.keep.tolist() == [True, False, True]
    assert regions.keep is None, "the input is left alone"
    assert step.kept_all == 0


@pytest.mark.parametrize("mode", ["per_crop", "per_image"])
def test_as_many_keypoints_as_z_are_enough(mode: str, half_empty: Image.Image) -> None:
    regions = boxes(LEFT, RIGHT, WHOLE)
    left, _, whole = sift(mode=mode).count(half_empty, regions)
    z = int(min(left, whole))
    assert z > 2
    assert sift(mode=mode, min_keypoints=z).apply([half_empty], [regions])[0].keep.tolist() == [
        True,
        False,
        True,
    ]
    above = sift(mode=mode, min_keypoints=int(max(left, whole)) + 1)
    assert above.apply([half_empty], [regions])[0].keep.tolist() == [True] * 3
    assert above.kept_all == 1


def test_counts_inside_boxes_by_hand() -> None:
    from heritage_align_plugins.sift.filter import _inside

    points = np.array([[1.0, 1.0], [5.0, 5.0], [5.0, 9.0]])
    grid = np.array([[0, 0, 5, 5], [5, 5, 9, 9], [0, 0, 10, 10], [6, 0, 9, 9]], dtype=np.float32)
    assert _inside(points, grid).tolist() == [1, 1, 3, 0]
    assert _inside(np.empty((0, 2)), grid).tolist() == [0, 0, 0, 0]


def test_nothing_left_keeps_everything_and_counts_it() -> None:
    step = sift()
    plain = Image.new("RGB", (40, 40), "grey")
    regions = boxes((0, 0, 20, 20), (10, 10, 40, 40))
    first, second = step.apply([plain, plain], [regions, regions])
    assert first.keep.tolist() == second.keep.tolist() == [True, True]
    assert step.kept_all == 2


def test_an_earlier_mask_is_narrowed_never_widened(half_empty: Image.Image) -> None:
    regions = boxes(LEFT, RIGHT, WHOLE)
    regions.keep = np.array([False, True, True])
    assert sift().apply([half_empty], [regions])[0].keep.tolist() == [False, False, True]
    regions.keep = np.array([False, True, False])
    step = sift()
    assert step.apply([half_empty], [regions])[0].keep.tolist() == [False, True, False]
    assert step.kept_all == 1


@pytest.mark.parametrize("mode", ["per_crop", "per_image"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3, 2), (9, 9)])
def test_tiny_pictures_have_no_keypoints(mode: str, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    assert sift(mode=mode).count(Image.fromarray(noise), boxes((0, 0, *size))).tolist() == [0]


def test_no_regions_stay_no_regions() -> None:
    empty = Regions(np.empty((0, 4), dtype=np.float32))
    step = sift()
    assert len(step.apply([Image.new("RGB", (9, 9))], [empty])[0]) == 0
    assert step.kept_all == 0


def test_thresholds_reach_the_detector(half_empty: Image.Image) -> None:
    def count(**settings: Any) -> int:
        return int(sift(**settings).count(half_empty, boxes(WHOLE))[0])

    assert count(contrast_threshold=0.3) < count()
    assert count(edge_threshold=1.5) < count()
    assert count(sigma=3.0) != count()
    assert count(octave_layers=6) != count()


def test_as_many_as_lowes_own_program() -> None:
    picture, keys = DATA / "oracles" / "sift_box.pgm", DATA / "oracles" / "sift_box_lowe.sift"
    if not picture.exists():
        pytest.skip(f"{picture} is not there: Lowe's test picture is not shipped")
    lowe = int(keys.read_text().split()[0])
    with Image.open(picture) as image:
        ours = int(sift().count(image, boxes((0, 0, *image.size)))[0])
    assert lowe == 638
    assert ours == pytest.approx(lowe, rel=0.1)


def test_modes_agree_on_real_regions() -> None:
    folder = DATA / "getty_mosaics"
    if not folder.exists():
        pytest.skip(f"{folder} is not there: the photographs are not shipped")
    with safe_open(folder / "region_features.safetensors", "np") as stored:
        names = json.loads(stored.metadata()["ids"])
        offsets, fractions = stored.get_tensor("offsets"), stored.get_tensor("boxes")
    crop_counts, image_counts = [], []
    for i, name in enumerate(names[:8]):
        with Image.open(folder / name) as image:
            regions = Regions(fractions[offsets[i] : offsets[i + 1]].astype(np.float32) * (image.size * 2))
            crop_counts.append(sift().count(image, regions))
            image_counts.append(sift(mode="per_image").count(image, regions))
    crop, whole = np.concatenate(crop_counts), np.concatenate(image_counts)
    assert len(crop) == 80
    assert ((crop >= 2) == (whole >= 2)).mean() >= 0.95
    assert np.corrcoef(crop, whole)[0, 1] > 0.99
    # SIFT finds nothing within five pixels of an edge, and only a crop has edges inside the picture.
    assert whole.sum() > crop.sum()


class Counted:
    """A detector that counts how often it is asked."""

    def __init__(self, step: SiftFilter) -> None:
        self._detector, self.times = step._detector, 0
        step._detector = self

    def detect(self, *arguments: Any) -> Any:
        self.times += 1
        return self._detector.detect(*arguments)


def drawn(seed: int, width: int, height: int, plain: float) -> Image.Image:
    """Blobs of several sizes on a ground of which a share is plain, so that some crops have few keypoints."""
    random = np.random.default_rng(seed)
    pixels = np.full((height, width), 120.0)
    for size in (3, 6, 12, 25):
        coarse = random.normal(0, 40, (-(-height // size), -(-width // size)))
        layer = Image.fromarray(coarse.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        pixels += np.asarray(layer)
    pixels[:, : int(plain * width)] = 120
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB")


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, Regions]:
    """A size, and crops of it that overlap, share edges, are alike or lie in each other; whole pixels or not."""
    width, height = draw(st.integers(40, 220)), draw(st.integers(40, 220))
    whole = draw(st.booleans())
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        spans = []
        for length in (width, height):
            start = draw(st.sampled_from([0.0, length / 3, length / 2]) | st.floats(0, length - 2))
            end = draw(st.sampled_from([float(length), 2 * length / 3]) | st.floats(2, length))
            if end - start < 1:
                start, end = 0.0, float(length)
            spans.append((float(np.floor(start)), float(np.ceil(end))) if whole else (start, end))
        rows.append((spans[0][0], spans[1][0], spans[0][1], spans[1][1]))
    return width, height, boxes(*draw(st.permutations(rows)))


@settings(max_examples=60, deadline=None)
@given(
    layout=layouts(),
    seed=st.integers(0, 2**16),
    plain=st.sampled_from([0.0, 0.4, 0.8]),
    z=st.sampled_from([0, 1, 2, 3, 6, 15, 60]),
    detector=st.sampled_from([{}, {"sigma": 1.1}, {"sigma": 2.4}, {"octave_layers": 2}, {"octave_layers": 5}]),
)
def test_what_is_inferred_is_what_every_crop_s_keypoints_say(
    layout: tuple[int, int, Regions], seed: int, plain: float, z: int, detector: dict[str, Any]
) -> None:
    width, height, regions = layout
    picture = drawn(seed, width, height, plain)
    step = sift(min_keypoints=z, **detector)
    assert step.distinctive(picture, regions).tolist() == (step.count(picture, regions) >= z).tolist()


def test_small_crops_decide_large_ones() -> None:
    picture = drawn(1, 256, 256, 0.0)
    thirds, halves = ((0, 86, 171), (86, 171, 256)), ((0, 128), (128, 256))
    rows = [(0, 0, 256, 256)]
    for starts, ends in (halves, thirds):
        rows += [(x0, y0, x1, y1) for x0, x1 in zip(starts, ends) for y0, y1 in zip(starts, ends)]
    step = sift()
    counted = Counted(step)
    assert step.distinctive(picture, boxes(*rows)).all()
    assert counted.times == 9, "the four quarters and the whole hold a ninth's keypoints"
    counted.times = 0
    assert not step.distinctive(Image.new("RGB", (256, 256), "grey"), boxes(*rows)).any()
    assert counted.times == 14, "what is in no crop decides none"


def bars(seed: int) -> tuple[Image.Image, Regions]:
    """A few blurred bars, which have few keypoints, and crops that cut them, by which some get more."""
    random = np.random.default_rng(seed)
    picture = Image.new("L", (160, 160), 128)
    draw = ImageDraw.Draw(picture)
    for _ in range(random.integers(1, 5)):
        angle, centre, half = random.uniform(0, np.pi), random.uniform(30, 130, 2), random.uniform(30, 70)
        along = np.array([np.cos(angle), np.sin(angle)]) * half
        grey, width = int(random.choice([20, 240])), int(random.integers(2, 9))
        draw.line([*(centre - along), *(centre + along)], fill=grey, width=width)
    picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.5, 2))).convert("RGB")
    rows = [(0, 0, 160, 160)]
    for _ in range(5):
        size = random.integers(30, 110, 2)
        x, y = (random.integers(0, 160 - length) for length in size)
        rows.append((x, y, x + size[0], y + size[1]))
    return picture, boxes(*rows)


def test_keypoints_that_a_crop_s_own_edge_makes_decide_nothing() -> None:
    careless = 0
    for seed, z in ((11, 1), (11, 2), (23, 1), (27, 1), (31, 1), (104, 2), (166, 1), (235, 1), (235, 2)):
        picture, regions = bars(seed)
        step = sift(min_keypoints=z)
        said = (step.count(picture, regions) >= z).tolist()
        assert step.distinctive(picture, regions).tolist() == said
        step._reach = 0.0
        careless += step.distinctive(picture, regions).tolist() != said
    assert careless, "the pictures are such that taking every keypoint for the larger crop's would be wrong"


@pytest.mark.parametrize("wrong", [{"min_keypoints": -1}, {"mode": "fast"}, {"sigma": 0}, {"z": 2}])
def test_bad_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SiftConfig(**wrong)


@parametrize_with_checks([("filter", "sift"), ("filter", "sift", {"mode": "per_image"})])
def test_conformance(check: Callable[[], None]) -> None:
    check()

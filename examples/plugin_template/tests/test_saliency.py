"""What stands out is found, and what does not is not."""

from __future__ import annotations

import numpy as np
import pytest
from heritage_align_saliency.config import SaliencyBoxesConfig
from heritage_align_saliency.proposer import SaliencyBoxes, components
from PIL import Image

from heritage_align.plugin import BuildContext, Regions


def proposed(picture: Image.Image, **settings: object) -> Regions:
    config = SaliencyBoxesConfig.model_validate(settings)
    (regions,) = SaliencyBoxes(config, BuildContext()).propose([picture], ["id"])
    return regions


def striped(odd: tuple[int, int, int, int]) -> Image.Image:
    """A cloth of regular stripes with one bright patch."""
    y, x = np.mgrid[0:240, 0:320]
    grey = (127 + 60 * np.sin(2 * np.pi * (x + y) / 20)).astype(np.uint8)
    x0, y0, x1, y1 = odd
    grey[y0:y1, x0:x1] = 250
    return Image.fromarray(grey).convert("RGB")


@pytest.mark.parametrize("odd", [(40, 30, 80, 70), (220, 150, 270, 190), (150, 20, 190, 50)])
def test_a_patch_on_a_regular_pattern_comes_first(odd: tuple[int, int, int, int]) -> None:
    regions = proposed(striped(odd))
    x0, y0, x1, y1 = regions.boxes[0].tolist()
    width = min(x1, odd[2]) - max(x0, odd[0])
    height = min(y1, odd[3]) - max(y0, odd[1])
    assert width > 0
    assert height > 0
    covered = width * height / ((odd[2] - odd[0]) * (odd[3] - odd[1]))
    assert covered > 0.5
    assert (x1 - x0) * (y1 - y0) < 0.25 * 320 * 240


def test_a_plain_picture_is_one_region() -> None:
    regions = proposed(Image.new("RGB", (50, 30), (90, 90, 90)), whole=False)
    assert regions.boxes.tolist() == [[0, 0, 50, 30]]
    assert regions.scores is not None
    assert regions.scores.tolist() == [1.0]


def test_the_whole_picture_is_the_last_region_when_asked_for() -> None:
    picture = striped((40, 30, 80, 70))
    with_whole, without = proposed(picture, count=2), proposed(picture, count=2, whole=False)
    assert with_whole.boxes[-1].tolist() == [0, 0, 320, 240]
    np.testing.assert_array_equal(with_whole.boxes[:-1], without.boxes)
    assert len(without) <= 2


def test_components_are_four_connected() -> None:
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 1, 1]], dtype=bool)
    parts = [list(zip(rows.tolist(), columns.tolist(), strict=True)) for rows, columns in components(mask)]
    assert parts == [[(0, 0), (0, 1)], [(1, 2), (2, 2), (2, 3)], [(2, 0)]]

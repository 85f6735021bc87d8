"""Random crops: distribution of WCA's code, reproducible whatever the batch, never empty."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heritage_align_plugins.crops.config import RandomCropsConfig
from heritage_align_plugins.crops.proposer import RandomCrops
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from heritage_align.protocols import BuildContext, Proposer
from heritage_align.testing import parametrize_with_checks

ROOT = Path(__file__).parents[3]


def crops(size: tuple[int, int], image_id: str = "a", seed: int = 0, **settings: Any) -> np.ndarray:
    proposer = RandomCrops(RandomCropsConfig(**settings), BuildContext(seed=seed))
    assert isinstance(proposer, Proposer)
    return proposer.propose([Image.new("RGB", size)], [image_id])[0].boxes


def test_batch_order_is_irrelevant() -> None:
    proposer = RandomCrops(RandomCropsConfig(), BuildContext(seed=3))
    images = [Image.new("RGB", (50, 40)), Image.new("RGB", (90, 60)), Image.new("RGB", (50, 40))]
    together = proposer.propose(images, ["a", "b", "c"])
    backwards = proposer.propose(images[::-1], ["c", "b", "a"])[::-1]
    for one, other in zip(together, backwards):
        np.testing.assert_array_equal(one.boxes, other.boxes)
    assert (together[0].boxes != together[2].boxes).any()


def test_seed_and_id_decide() -> None:
    assert (crops((80, 80)) == crops((80, 80))).all()
    assert (crops((80, 80), seed=1) != crops((80, 80))).any()
    assert (crops((80, 80), image_id="b") != crops((80, 80))).any()
    # Without a separator seed 1 of image "1a" would be seed 11 of image "a".
    assert (crops((80, 80), image_id="1a", seed=1) != crops((80, 80), image_id="a", seed=11)).any()


def test_another_process_draws_the_same() -> None:
    code = (
        "from PIL import Image\n"
        "from heritage_align.protocols import BuildContext\n"
        "from heritage_align_plugins.crops.config import RandomCropsConfig\n"
        "from heritage_align_plugins.crops.proposer import RandomCrops\n"
        "proposer = RandomCrops(RandomCropsConfig(count=3), BuildContext(seed=5))\n"
        "print(proposer.propose([Image.new('RGB', (70, 50))], ['牡丹'])[0].boxes.tolist())\n"
    )
    paths = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'plugins')!r}]\n"
    printed = subprocess.run([sys.executable, "-c", paths + code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == str(crops((70, 50), "牡丹", seed=5, count=3).tolist())


def test_larger_count_extends_a_smaller_one() -> None:
    assert (crops((80, 60), count=60)[:10] == crops((80, 60), count=10)).all()


def test_distribution_is_that_of_the_released_code() -> None:
    boxes = crops((1000, 500), count=20_000)
    sides = boxes[:, 2] - boxes[:, 0]
    assert (sides == boxes[:, 3] - boxes[:, 1]).all()
    # int(U(0.1, 0.9) * 500): mean 249.5, standard error 0.8; extremes within one draw in 2000.
    assert sides.mean() == pytest.approx(249.5, abs=4)
    assert 50 <= sides.min() <= 52
    assert 447 <= sides.max() <= 449
    # The place is uniform over the slack, ends included.
    place = boxes[:, 0] / (1000 - sides)
    assert place.mean() == pytest.approx(0.5, abs=0.01)
    assert place.min() == 0
    assert place.max() == pytest.approx(1, abs=2e-3)


def test_scale_is_a_parameter() -> None:
    sides = np.diff(crops((200, 200), count=500, scale=(0.5, 0.5))[:, [0, 2]])
    assert set(sides.ravel()) == {100}


def test_scale_may_be_a_part_of_the_area() -> None:
    boxes = crops((1000, 500), count=4000, scale=(0.1, 0.4), scale_of="area")
    part = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / 500_000
    assert part.min() == pytest.approx(0.1, abs=2e-3)
    assert part.max() == pytest.approx(0.4, abs=2e-3)
    assert part.mean() == pytest.approx(0.25, abs=5e-3)  # standard error 0.0014; whole pixels take at most 0.002
    # A square of the whole area would be 707 pixels high: it is cut to the picture.
    whole = crops((1000, 500), count=3, scale=(1.0, 1.0), scale_of="area")
    assert {tuple(box) for box in (whole[:, 2:] - whole[:, :2]).tolist()} == {(707.0, 500.0)}


def test_aspect_keeps_the_area() -> None:
    boxes = crops((4000, 4000), count=4000, scale=(0.3, 0.3), aspect=(0.25, 4.0))
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    np.testing.assert_allclose(width * height, 1200**2, rtol=3e-3)
    ratio = np.log(width / height)
    assert ratio.min() == pytest.approx(-np.log(4), abs=0.02)
    assert ratio.max() == pytest.approx(np.log(4), abs=0.02)
    assert ratio.mean() == pytest.approx(0, abs=0.05)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([None, (0.1, 10.0)]),
    st.sampled_from(["shorter_side", "area"]),
)
def test_boxes_are_inside_and_never_empty(
    width: int, height: int, aspect: tuple[float, float] | None, scale_of: str
) -> None:
    boxes = crops((width, height), scale=(0.001, 1.0), scale_of=scale_of, aspect=aspect, count=20)
    assert boxes.shape == (20, 4)
    assert boxes.dtype == np.float32
    assert (boxes == np.floor(boxes)).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
    assert boxes.min() >= 0
    assert (boxes[:, 2] <= width).all()
    assert (boxes[:, 3] <= height).all()


def test_as_many_ids_as_images() -> None:
    with pytest.raises(ValueError, match="shorter"):
        RandomCrops(RandomCropsConfig(), BuildContext()).propose([Image.new("RGB", (5, 5))] * 2, ["a"])


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"scale": (0.9, 0.1)}, {"scale": (0, 0.5)}, {"scale": (0.5, 1.1)}, {"aspect": (2, 1)}],
)
def test_bad_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        RandomCropsConfig(**wrong)


@parametrize_with_checks(
    [("proposer", "random_crops", {"count": 4}), ("proposer", "random_crops", {"aspect": [0.5, 2.0]})]
)
def test_conformance(check: Callable[[], None]) -> None:
    check()

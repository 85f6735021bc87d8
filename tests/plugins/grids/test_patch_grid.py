"""Grids: exact cells for tokens, whole pixels for windows, the right outputs for the planner."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from heritage_align_plugins.grids.config import PatchGridConfig
from heritage_align_plugins.grids.proposer import PatchGrid
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from heritage_align.errors import ConfigError
from heritage_align.protocols import BuildContext, Proposer
from heritage_align.testing import parametrize_with_checks


def context(grid: tuple[int, int] | None) -> BuildContext:
    encoder: Any = SimpleNamespace(patch_grid=grid)
    return BuildContext(encoder=encoder)


def test_tokens_are_row_major_cells_of_the_whole_picture() -> None:
    proposer = PatchGrid(PatchGridConfig(), context((2, 3)))
    assert isinstance(proposer, Proposer)
    (regions,) = proposer.propose([Image.new("RGB", (60, 10))], ["a"])
    assert regions.grid == (2, 3)
    assert regions.boxes.dtype == np.float32
    assert regions.boxes.tolist() == [
        [0, 0, 20, 5],
        [20, 0, 40, 5],
        [40, 0, 60, 5],
        [0, 5, 20, 10],
        [20, 5, 40, 10],
        [40, 5, 60, 10],
    ]


def test_tokens_keep_an_area_in_a_tiny_picture() -> None:
    (regions,) = PatchGrid(PatchGridConfig(), context((14, 14))).propose([Image.new("RGB", (3, 1))], ["a"])
    sides = regions.boxes[:, 2:] - regions.boxes[:, :2]
    assert len(regions) == 196
    assert sides.min() > 0
    assert (sides[:, 0] * sides[:, 1]).sum() == pytest.approx(3)


@pytest.mark.parametrize("where", [BuildContext(), context(None)])
def test_tokens_without_patches_are_refused(where: BuildContext) -> None:
    with pytest.raises(ConfigError, match=r"proposer\.mode: 'tokens' needs an encoder with patches"):
        PatchGrid(PatchGridConfig(), where)


def test_windows_by_scale() -> None:
    proposer = PatchGrid(PatchGridConfig(mode="windows", scales=(1, 2)), BuildContext())
    (regions,) = proposer.propose([Image.new("RGB", (10, 6))], ["a"])
    assert regions.grid is None
    assert regions.boxes.tolist() == [
        [0, 0, 10, 6],
        [0, 0, 5, 3],
        [5, 0, 10, 3],
        [0, 3, 5, 6],
        [5, 3, 10, 6],
    ]


def test_windows_share_the_overlap() -> None:
    proposer = PatchGrid(PatchGridConfig(mode="windows", scales=(3,), overlap=0.5), BuildContext())
    (regions,) = proposer.propose([Image.new("RGB", (100, 100))], ["a"])
    # Three windows of side s at stride s / 2 span 2 s = 100.
    assert regions.boxes[:3, [0, 2]].tolist() == [[0, 50], [25, 75], [50, 100]]
    assert regions.boxes[[0, 3, 6]][:, [1, 3]].tolist() == [[0, 50], [25, 75], [50, 100]]


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.floats(0, 0.95),
)
def test_windows_are_whole_pixels_and_cover_the_picture(
    width: int, height: int, scales: list[int], overlap: float
) -> None:
    config = PatchGridConfig(mode="windows", scales=tuple(scales), overlap=overlap)
    (regions,) = PatchGrid(config, BuildContext()).propose([Image.new("RGB", (width, height))], ["a"])
    boxes = regions.boxes.astype(int)
    assert (boxes == regions.boxes).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert boxes.min() >= 0
    assert (boxes[:, 2] <= width).all()
    assert (boxes[:, 3] <= height).all()
    first = 0
    for scale in scales:
        covered = np.zeros((height, width), dtype=bool)
        for x0, y0, x1, y1 in boxes[first : first + scale**2]:
            covered[y0:y1, x0:x1] = True
        assert covered.all()
        first += scale**2
    assert first == len(boxes)


def test_facts_switch_the_outputs() -> None:
    assert PatchGridConfig().facts().outputs == ("patches",)
    assert PatchGridConfig(mode="windows").facts().outputs == ("crops",)


@pytest.mark.parametrize("wrong", [{"scales": ()}, {"scales": (0,)}, {"overlap": 1.0}, {"scale": (1,)}])
def test_bad_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PatchGridConfig(**wrong)


@parametrize_with_checks([("proposer", "patch_grid"), ("proposer", "patch_grid", {"mode": "windows"})])
def test_conformance(check: Callable[[], None]) -> None:
    check()


def test_an_encoder_whose_patches_follow_the_picture_gets_grids_of_its_own() -> None:
    def grid_of(width: int, height: int) -> tuple[int, int]:
        return (1, 2) if width > height else (2, 1)

    encoder: Any = SimpleNamespace(patch_grid=None, grid_of=grid_of)
    proposer = PatchGrid(PatchGridConfig(), BuildContext(encoder=encoder))
    wide, tall = proposer.propose([Image.new("RGB", (8, 4)), Image.new("RGB", (4, 8))], ["宽", "高"])
    assert (wide.grid, wide.boxes.tolist()) == ((1, 2), [[0, 0, 4, 4], [4, 0, 8, 4]])
    assert (tall.grid, tall.boxes.tolist()) == ((2, 1), [[0, 0, 4, 4], [0, 4, 4, 8]])

"""From a detector's raw boxes to regions, by hand, and the settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heritage_align_plugins.faster_rcnn.config import FasterRcnnConfig
from heritage_align_plugins.faster_rcnn.proposer import FasterRcnn, best_regions
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from heritage_align.errors import MissingDependency
from heritage_align.protocols import BuildContext

NAN = float("nan")


def regions(boxes: list[list[float]], scores: list[float], **settings: Any) -> list[tuple[list[float], float]]:
    config = FasterRcnnConfig(**settings)
    raw = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    found = best_regions(raw, torch.tensor(scores), Image.new("RGB", (10, 8)), config)
    assert found.scores is not None
    assert found.boxes.dtype == found.scores.dtype == np.float32
    return list(zip(found.boxes.tolist(), [round(score, 4) for score in found.scores.tolist()]))


def test_best_first_and_no_more_than_count() -> None:
    boxes: list[list[float]] = [[0, 0, 2, 2], [4, 0, 6, 2], [8, 0, 10, 2]]
    assert regions(boxes, [0.1, 0.9, 0.5], count=2) == [([4, 0, 6, 2], 0.9), ([8, 0, 10, 2], 0.5)]


def test_overlap_is_suppressed_above_the_threshold_only() -> None:
    boxes: list[list[float]] = [[0, 0, 4, 4], [0, 0, 4, 3], [0, 0, 4, 2]]  # IoU with the first: 1, 0.75, 0.5
    assert regions(boxes, [0.9, 0.8, 0.7], nms=0.7) == [([0, 0, 4, 4], 0.9), ([0, 0, 4, 2], 0.7)]
    assert len(regions(boxes, [0.9, 0.8, 0.7], nms=0.75)) == 3
    assert len(regions(boxes, [0.9, 0.8, 0.7], nms=0.4)) == 1


def test_boxes_are_clipped_and_narrow_ones_dropped() -> None:
    boxes: list[list[float]] = [[-5, -5, 3, 3], [8, 6, 99, 99], [9.5, 0, 20, 8], [3, 3, 3, 5], [5, 5, 4, 4]]
    assert regions(boxes, [0.9, 0.8, 0.7, 0.6, 0.5]) == [([0, 0, 3, 3], 0.9), ([8, 6, 10, 8], 0.8)]
    assert regions(boxes, [0.9, 0.8, 0.7, 0.6, 0.5], min_side=0.5)[2] == ([9.5, 0, 10, 8], 0.7)
    assert regions(boxes, [0.9, 0.8, 0.7, 0.6, 0.5], min_side=3) == [([0, 0, 3, 3], 0.9)]


def test_nothing_found_is_the_whole_picture() -> None:
    whole = [([0, 0, 10, 8], 0)]
    assert regions([], []) == whole
    assert regions([[20, 20, 30, 30]], [0.9]) == whole
    assert regions([[NAN, 0, 5, 5], [0, 0, 5, 5]], [0.9, NAN]) == whole


@given(st.lists(st.lists(st.floats(width=32), min_size=5, max_size=5), max_size=12), st.floats(0.01, 1))
def test_any_boxes_give_usable_regions(rows: list[list[float]], threshold: float) -> None:
    found = regions([row[:4] for row in rows], [row[4] for row in rows], nms=threshold, min_side=1e-3, count=5)
    assert 1 <= len(found) <= 5
    for (x0, y0, x1, y1), score in found:
        assert 0 <= x0 < x1 <= 10
        assert 0 <= y0 < y1 <= 8
        assert np.isfinite(score)


def test_missing_detectron2_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("detectron2", "detectron2.checkpoint"):
        monkeypatch.setitem(sys.modules, module, None)
    for module in ("detectron2_detector", "bottom_up"):
        monkeypatch.delitem(sys.modules, f"heritage_align_plugins.faster_rcnn.{module}", raising=False)
    config = FasterRcnnConfig(provider="detectron2", config_file=tmp_path / "model.yaml", weights="random")
    with pytest.raises(MissingDependency, match=r"pip install --no-build-isolation 'git\+https://github\.com/.*"):
        FasterRcnn(config, BuildContext())


def test_facts_name_the_files() -> None:
    assert FasterRcnnConfig().facts().files == {}
    config = FasterRcnnConfig.model_validate({"provider": "detectron2", "config_file": "vg.yaml", "weights": "vg.pkl"})
    assert config.facts().files == {"weights": Path("vg.pkl"), "config_file": Path("vg.yaml")}
    assert FasterRcnnConfig.model_validate({"weights": "random"}).weights == "random"
    assert FasterRcnnConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"provider": "detectron2", "weights": "a.pkl"}, "config_file: provider detectron2 needs one"),
        ({"provider": "detectron2", "config_file": "a.yaml"}, "'coco' is torchvision's"),
        ({"provider": "detectron2", "config_file": "a.py", "weights": "a.pth"}, r"expected a \.yaml file"),
        ({"config_file": "a.yaml"}, "torchvision has architecture"),
        ({"count": 0}, "count"),
        ({"nms": 0}, "nms"),
        ({"architecture": "resnet101"}, "architecture"),
    ],
)
def test_bad_settings_are_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        FasterRcnnConfig.model_validate(wrong)

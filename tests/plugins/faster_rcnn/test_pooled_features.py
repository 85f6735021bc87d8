"""Features of regions by torchvision's second stage, against the same by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heritage_align_plugins.faster_rcnn.config import FasterRcnnConfig
from heritage_align_plugins.faster_rcnn.proposer import FasterRcnn
from heritage_align_plugins.region_features.config import RegionFeaturesConfig
from heritage_align_plugins.region_features.proposer import PrecomputedRegions
from PIL import Image
from torch import nn
from torchvision.ops import roi_align

from heritage_align.data.region_features import features_of_regions, write_region_features
from heritage_align.errors import DataError
from heritage_align.protocols import BuildContext

SMALL = {"architecture": "mobilenet_v3_large_320_fpn", "weights": "random"}


def build(**settings: Any) -> FasterRcnn:
    """Build a detector that sees something, at a size that is fast.

    The signal dies away in random layers whose normalisation has seen nothing: every region would have one feature.
    """
    config = FasterRcnnConfig.model_validate({**SMALL, "features": "pooled", **settings})
    proposer = FasterRcnn(config, BuildContext())
    detector: Any = proposer._detector
    detector.model.transform.min_size, detector.model.transform.max_size = (128,), 192
    noise = torch.rand(2, 3, 128, 192, generator=torch.Generator().manual_seed(0))
    for module in detector.model.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # statistics of all that was seen
    detector.model.backbone.train()
    with torch.no_grad():
        detector.model.backbone(noise)
    detector.model.backbone.eval()
    return proposer


def assert_close(got: np.ndarray | None, wanted: np.ndarray | None) -> None:
    """Products of matrices of other sizes are added in another order."""
    assert got is not None
    assert wanted is not None
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def assert_another(got: np.ndarray | None, wanted: np.ndarray | None) -> None:
    assert got is not None
    assert wanted is not None
    assert np.abs(got - wanted).max() > 0.01 * np.abs(wanted).max()


@pytest.fixture(scope="module")
def pooled() -> FasterRcnn:
    return build()


def by_hand(model: Any, image: Image.Image, box: np.ndarray, strides: list[int]) -> np.ndarray:
    """Compute the features of a box: resize, backbone, choose the level, RoIAlign of 7 x 7, box head.

    The level is that of Lin et al. 2017, eq. 1: floor(4 + log2(sqrt(area) / 224)), 4 being stride 16, within those
    that there are.
    """
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
    with torch.inference_mode():
        resized, _ = model.transform([pixels])
        maps = [feature_map for name, feature_map in model.backbone(resized.tensors).items() if name != "pool"]
        height, width = resized.image_sizes[0]
        inside = torch.tensor(box) * torch.tensor([width / image.width, height / image.height] * 2)
        area = float((inside[2] - inside[0]) * (inside[3] - inside[1]))
        levels = [int(math.log2(stride)) for stride in strides]
        wanted = math.floor(4 + math.log2(math.sqrt(area) / 224 + 1e-6))
        level = levels.index(min(max(wanted, levels[0]), levels[-1]))
        aligned = roi_align(maps[level], [inside[None]], (7, 7), 1 / strides[level], sampling_ratio=2)
        return np.asarray(model.roi_heads.box_head(aligned)[0])


@pytest.mark.parametrize(
    ("settings", "strides"),
    [({}, [32, 32]), ({"architecture": "resnet50_fpn", "count": 2}, [4, 8, 16, 32])],
    ids=["mobilenet", "resnet50"],
)
def test_features_are_those_by_hand(settings: dict[str, Any], strides: list[int], picture: Image.Image) -> None:
    proposer = build(**settings)
    detector: Any = proposer._detector
    (found,) = proposer.propose([picture], ["a"])
    assert found.features is not None
    assert found.global_feature is not None
    assert found.features.dtype == found.global_feature.dtype == np.float32
    assert found.features.shape == (len(found), 1024)
    assert proposer.dim == proposer.config.facts().dim == 1024
    assert_close(found.features[0], by_hand(detector.model, picture, found.boxes[0], strides))
    whole = np.array([0, 0, *picture.size], dtype=np.float32)
    assert_close(found.global_feature, by_hand(detector.model, picture, whole, strides))
    small, large = np.array([[12, 20, 31, 42], [40, 5, 130, 88.5]], dtype=np.float32)
    given = proposer.features_of(picture, np.stack([small, large]))
    assert_close(given[0], by_hand(detector.model, picture, small, strides))
    assert_close(given[1], by_hand(detector.model, picture, large, strides))
    assert_another(given[0], found.global_feature)
    assert_another(given[1], given[0])


def test_features_change_no_region(pooled: FasterRcnn, picture: Image.Image) -> None:
    (plain,) = build(features="none").propose([picture], ["a"])
    other = picture.rotate(90, expand=True)
    first, again = pooled.propose([picture], ["a"])[0], pooled.propose([other, picture], ["b", "a"])[1]
    assert (plain.features, plain.global_feature) == (None, None)
    np.testing.assert_array_equal(first.boxes, plain.boxes)
    for name in ("features", "global_feature"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))


@pytest.mark.parametrize("rank_by", ["objectness", "class"])
def test_given_boxes_have_the_features_of_regions(rank_by: str, picture: Image.Image) -> None:
    proposer = build(rank_by=rank_by, min_score=0.0, count=3)
    (found,) = proposer.propose([picture], ["a"])
    assert_close(proposer.features_of(picture, found.boxes), found.features)
    beyond = np.array([[-50, -50, 500, 500]], dtype=np.float32)
    (whole,) = proposer.features_of(picture, beyond)
    assert_close(whole, found.global_feature)
    assert proposer.features_of(picture, np.empty((0, 4), dtype=np.float32)).shape == (0, 1024)


def test_boxes_without_area_are_named(pooled: FasterRcnn, picture: Image.Image) -> None:
    boxes = np.array([[0, 0, 5, 5], [130, 0, 140, 5]], dtype=np.float32)
    with pytest.raises(DataError, match=r"box \[130.0, 0.0, 140.0, 5.0\] has no area within its picture of 130 x 90"):
        pooled.features_of(picture, boxes)
    with pytest.raises(DataError, match=r"box \[nan, "):
        pooled.features_of(picture, np.full((1, 4), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match=r"boxes: expected \(n, 4\), got \(4,\)"):
        pooled.features_of(picture, boxes[0])


@pytest.fixture(scope="module")
def finds_nothing() -> FasterRcnn:
    return build(rank_by="class", min_score=0.9)  # which no untrained class reaches


@pytest.mark.parametrize("size", [(1, 1), (4000, 3), (3, 2000), (100, 1), (130, 90)])
def test_the_whole_picture_has_features_too(size: tuple[int, int], finds_nothing: FasterRcnn) -> None:
    (found,) = finds_nothing.propose([Image.new("RGB", size, (200, 30, 30))], ["a"])
    assert found.boxes.tolist() == [[0, 0, *size]]
    assert found.features is not None
    assert np.isfinite(found.features).all()
    assert_close(found.features[0], found.global_feature)


def test_a_strip_before_changes_nothing_after(pooled: FasterRcnn, picture: Image.Image) -> None:
    fresh = build()
    fresh.propose([Image.new("RGB", (1300, 13))], ["strip"])
    (after,), (expected,) = (proposer.propose([picture], ["a"]) for proposer in (fresh, pooled))
    assert after.features is not None
    np.testing.assert_array_equal(after.features, expected.features)


def test_facts_say_what_is_given() -> None:
    assert FasterRcnnConfig().facts().outputs is None
    facts = FasterRcnnConfig(features="pooled").facts()
    assert (facts.outputs, facts.dim) == (("crops", "features"), 1024)
    other = FasterRcnnConfig.model_validate(
        {"provider": "detectron2", "config_file": "vg.yaml", "weights": "vg.pkl", "features": "pooled"}
    )
    assert other.facts().dim is None


def test_what_was_found_is_kept_and_looked_up(picture: Image.Image, tmp_path: Path) -> None:
    images, ids = [picture, picture.rotate(90, expand=True)], ["images/1.jpg", "images/2.jpg"]
    found = build(count=3).propose(images, ids)
    path = tmp_path / "features.safetensors"
    write_region_features(path, features_of_regions(ids, found, [image.size for image in images]), dtype="fp32")
    reader = PrecomputedRegions(RegionFeaturesConfig(path=path), BuildContext())
    for kept, computed in zip(reader.propose(images, ["1", "2"]), found):
        np.testing.assert_array_equal(kept.features, computed.features)
        np.testing.assert_array_equal(kept.global_feature, computed.global_feature)
        np.testing.assert_array_equal(kept.scores, computed.scores)
        np.testing.assert_allclose(kept.boxes, computed.boxes, rtol=1e-5, atol=1e-4)

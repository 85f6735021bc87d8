"""The real detectron2: tiny models of the real architectures, files of the real forms."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heritage_align_plugins.faster_rcnn.config import FasterRcnnConfig
from heritage_align_plugins.faster_rcnn.proposer import FasterRcnn
from PIL import Image
from torch import nn

from heritage_align.errors import CheckpointError, ConfigError
from heritage_align.protocols import BuildContext

pytest.importorskip(
    "detectron2", reason="detectron2 is not installed: it is not on the package index", exc_type=ImportError
)

# The Visual Genome detector of bottom-up attention as its conversion configures it, with narrow layers.
VISUAL_GENOME = """
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  CAFFE_MAXPOOL: True
  PIXEL_MEAN: [102.9801, 115.9465, 122.7717]
  MASK_ON: False
  RESNETS: {DEPTH: 50, STEM_OUT_CHANNELS: 8, RES2_OUT_CHANNELS: 16, WIDTH_PER_GROUP: 4}
  PROPOSAL_GENERATOR: {HID_CHANNELS: 24}
  ANCHOR_GENERATOR: {SIZES: [[64, 128, 256, 512]]}
  RPN: {PRE_NMS_TOPK_TEST: 600, POST_NMS_TOPK_TEST: 100}
  ROI_HEADS: {NAME: Res5ROIHeads, NUM_CLASSES: 5}
  ROI_BOX_HEAD: {RES5HALVE: False, POOLER_TYPE: ROIPool, ATTR: True, NUM_ATTRS: 400}
INPUT: {MIN_SIZE_TEST: 200, MAX_SIZE_TEST: 400}
"""

PYRAMID = """
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  BACKBONE: {NAME: build_resnet_fpn_backbone}
  RESNETS:
    DEPTH: 50
    OUT_FEATURES: [res2, res3, res4, res5]
    STEM_OUT_CHANNELS: 8
    RES2_OUT_CHANNELS: 16
    WIDTH_PER_GROUP: 4
  FPN: {IN_FEATURES: [res2, res3, res4, res5], OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[32], [64], [128], [256], [512]]}
  RPN: {IN_FEATURES: [p2, p3, p4, p5, p6], POST_NMS_TOPK_TEST: 100}
  ROI_HEADS: {NAME: StandardROIHeads, IN_FEATURES: [p2, p3, p4, p5], NUM_CLASSES: 5}
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, FC_DIM: 16, POOLER_RESOLUTION: 7}
INPUT: {MIN_SIZE_TEST: 200, MAX_SIZE_TEST: 400, FORMAT: RGB}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both configurations."""
    path = tmp_path_factory.mktemp("detectron2")
    (path / "vg.yaml").write_text(VISUAL_GENOME)
    (path / "fpn.yaml").write_text(PYRAMID)
    return path


def build(config_file: Path, *, weights: Path | str = "random", seed: int = 0, **settings: Any) -> FasterRcnn:
    config = FasterRcnnConfig.model_validate(
        {
            "provider": "detectron2",
            "config_file": config_file,
            "weights": weights,
            "min_score": 0.0,
            **settings,
        }
    )
    return FasterRcnn(config, BuildContext(seed=seed))


def model(proposer: FasterRcnn) -> Any:
    detector: Any = proposer._detector
    return detector.model


@pytest.mark.parametrize("config", ["vg.yaml", "fpn.yaml"])
@pytest.mark.parametrize("rank_by", ["objectness", "class"])
def test_regions_are_inside_sorted_and_independent_of_the_batch(
    config: str, rank_by: str, folder: Path, picture: Image.Image
) -> None:
    proposer = build(folder / config, rank_by=rank_by)
    other = picture.rotate(90, expand=True)
    together = proposer.propose([picture, other], ["a", "b"])
    alone = proposer.propose([other], ["b"])[0]
    np.testing.assert_array_equal(together[1].boxes, alone.boxes)
    for image, found in zip([picture, other], together):
        assert found.scores is not None
        assert 1 <= len(found) <= 10
        assert (np.diff(found.scores) <= 0).all()
        assert (found.scores >= 0).all()
        assert (found.scores <= 1).all()
        assert (found.boxes[:, 2:] - found.boxes[:, :2] >= 1).all()
        assert found.boxes.min() >= 0
        assert (found.boxes[:, 2:] <= image.size).all()


def test_seed_decides_random_weights(folder: Path, picture: Image.Image) -> None:
    before = torch.get_rng_state()
    first, again, other = (build(folder / "vg.yaml", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    expected = first.propose([picture], ["a"])[0].boxes.tolist()
    assert again.propose([picture], ["a"])[0].boxes.tolist() == expected
    assert other.propose([picture], ["a"])[0].boxes.tolist() != expected


@pytest.mark.parametrize("config", ["vg.yaml", "fpn.yaml"])
def test_class_detections_are_those_of_the_libraries_predictor(
    config: str, folder: Path, picture: Image.Image, tmp_path: Path
) -> None:
    from detectron2.config import get_cfg
    from detectron2.engine import DefaultPredictor
    from heritage_align_plugins.faster_rcnn import bottom_up

    proposer = build(folder / config, rank_by="class", nms=1.0, count=50)
    weights = tmp_path / "model.pth"
    torch.save({"model": model(proposer).state_dict()}, weights)
    cfg = get_cfg()
    bottom_up.add_bottom_up_options(cfg)
    cfg.merge_from_file(str(folder / config))
    bottom_up.translate_bottom_up_options(cfg)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", str(weights)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = 0.0, 1.0
    predictor = DefaultPredictor(cfg)
    bottom_up.apply_bottom_up_options(predictor.model, cfg)
    from detectron2.checkpoint import DetectionCheckpointer

    DetectionCheckpointer(predictor.model).load(str(weights))
    expected = predictor(np.asarray(picture)[:, :, ::-1])["instances"]
    (found,) = proposer.propose([picture], ["a"])
    assert found.scores is not None
    np.testing.assert_allclose(found.scores[:20], expected.scores[:20].numpy(), rtol=1e-5)
    assert len(found) >= 20


def by_hand(detector: Any, image: Image.Image, box: np.ndarray) -> np.ndarray:
    """Compute the second stage's features of a box as the model's own forward does up to its classifier."""
    from detectron2.data.transforms import ResizeShortestEdge
    from detectron2.structures import Boxes

    pixels = np.asarray(image)
    pixels = pixels if detector.input_format == "RGB" else pixels[:, :, ::-1]
    resized = ResizeShortestEdge([200, 200], 400).get_transform(pixels).apply_image(pixels)
    tensor = torch.from_numpy(resized.transpose(2, 0, 1).astype(np.float32))
    scale = np.array([resized.shape[1] / image.width, resized.shape[0] / image.height] * 2)
    boxes = Boxes(torch.from_numpy((box * scale).astype(np.float32))[None])
    heads = detector.roi_heads
    with torch.inference_mode():
        maps = detector.backbone(detector.preprocess_image([{"image": tensor}]).tensor)
        if hasattr(heads, "res5"):
            return np.asarray(heads._shared_roi_transform([maps["res4"]], [boxes])[0].mean((1, 2)))
        pooled = heads.box_pooler([maps[name] for name in ("p2", "p3", "p4", "p5")], [boxes])
        return np.asarray(heads.box_head(pooled)[0])


@pytest.mark.parametrize(("config", "dim"), [("vg.yaml", 128), ("fpn.yaml", 16)])
@pytest.mark.parametrize("rank_by", ["objectness", "class"])
def test_pooled_features_are_those_by_hand(
    config: str, dim: int, rank_by: str, folder: Path, picture: Image.Image
) -> None:
    proposer = build(folder / config, features="pooled", rank_by=rank_by, count=3)
    (found,) = proposer.propose([picture], ["a"])
    (plain,) = build(folder / config, rank_by=rank_by, count=3).propose([picture], ["a"])
    np.testing.assert_array_equal(found.boxes, plain.boxes)
    assert found.features is not None
    assert found.global_feature is not None
    assert found.features.shape == (len(found), proposer.dim) == (len(found), dim)
    boxes = np.array([found.boxes[0], [0, 0, 130, 90], [12, 20, 31, 42]], dtype=np.float32)
    given = proposer.features_of(picture, boxes)
    expected = np.stack([by_hand(model(proposer), picture, box) for box in boxes])
    close = {"rtol": 1e-3, "atol": 1e-4 * float(np.abs(expected).max())}
    np.testing.assert_allclose(given, expected, **close)
    np.testing.assert_allclose(found.features[0], expected[0], **close)
    np.testing.assert_allclose(found.global_feature, expected[1], **close)
    assert np.abs(expected[1] - expected[2]).max() > close["atol"]


def test_pooled_features_need_one_box_head(tmp_path: Path) -> None:
    path = tmp_path / "cascade.yaml"
    cascade = PYRAMID.replace("StandardROIHeads", "CascadeROIHeads").replace(
        "ROI_BOX_HEAD: {", "ROI_BOX_HEAD: {CLS_AGNOSTIC_BBOX_REG: True, "
    )
    path.write_text(cascade)
    assert build(path).dim is None
    with pytest.raises(ConfigError, match="'pooled' needs a detector with one box head, not CascadeROIHeads"):
        build(path, features="pooled")
    with pytest.raises(ValueError, match="CascadeROIHeads has no features of boxes"):
        build(path).features_of(Image.new("RGB", (50, 50)), np.array([[0, 0, 9, 9]], dtype=np.float32))


def test_bottom_up_options_change_the_architecture(folder: Path) -> None:
    from detectron2.modeling.backbone.resnet import BasicStem

    detector = model(build(folder / "vg.yaml"))
    assert detector.proposal_generator.rpn_head.conv.out_channels == 24
    first, second, _ = detector.roi_heads.res5
    assert first.conv1.stride == first.shortcut.stride == (1, 1)
    assert first.conv2.dilation == second.conv2.dilation == (2, 2)
    assert detector.roi_heads.res5(torch.rand(1, 64, 14, 14)).shape == (1, 128, 14, 14)
    stem = detector.backbone.stem
    pixels = torch.rand(1, 3, 26, 26)
    convolved = torch.relu(stem.conv1(pixels))
    assert convolved.shape[2:] == (13, 13)
    # Caffe: windows start at 0, 2, ..., the last is cut off at the border. Its first corner sees three rows.
    assert torch.equal(stem(pixels)[:, :, 0, 0], convolved[:, :, :3, :3].amax((2, 3)))
    padded = BasicStem.forward(stem, pixels)
    assert torch.equal(padded[:, :, 0, 0], convolved[:, :, :2, :2].amax((2, 3)))
    plain = model(build(folder / "fpn.yaml"))
    assert type(plain.backbone.bottom_up.stem) is BasicStem


@pytest.mark.parametrize("form", ["plain.pth", "wrapped.pth", "zoo.pkl"])
def test_weights_of_every_form_load(form: str, folder: Path, picture: Image.Image, tmp_path: Path) -> None:
    donor = build(folder / "vg.yaml", seed=5)
    path = tmp_path / form
    state = model(donor).state_dict()
    # What a checkpoint with an attribute head holds beyond the detector.
    state["roi_heads.box_predictor.attr_score.weight"] = torch.zeros(4, 4)
    if form == "zoo.pkl":
        arrays = {name: value.numpy() for name, value in state.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "zoo", "matching_heuristics": True}))
    else:
        torch.save({"model": state} if form == "wrapped.pth" else state, path)
    loaded = build(folder / "vg.yaml", weights=path)
    expected, found = (p.propose([picture], ["a"])[0] for p in (donor, loaded))
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    random = build(folder / "vg.yaml").propose([picture], ["a"])[0]
    assert random.boxes.tolist() != expected.boxes.tolist()


def test_caffe2_weights_are_matched_by_name(folder: Path, tmp_path: Path) -> None:
    """Files of Detectron 1 name their blobs otherwise; detectron2's own matching is kept."""
    state = model(build(folder / "vg.yaml", seed=5)).state_dict()
    blobs = {"conv1_w": state["backbone.stem.conv1.weight"].numpy(), "conv1_w_momentum": np.zeros(3)}
    path = tmp_path / "caffe2.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    with pytest.raises(CheckpointError, match=r"caffe2\.pkl: does not fit the detector: \d+ missing") as caught:
        build(folder / "vg.yaml", weights=path)
    assert "stem.conv1.weight" not in str(caught.value)


def test_weights_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "fpn.pth"
    state = model(build(folder / "fpn.yaml")).state_dict()
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"fpn\.pth: does not fit the detector: \d+ missing \("):
        build(folder / "vg.yaml", weights=path)
    state["proposal_generator.rpn_head.objectness_logits.bias"] = torch.zeros(7)
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"1 of another shape \(.*objectness_logits\.bias \(7,\) instead of"):
        build(folder / "fpn.yaml", weights=path)


def test_pickles_are_not_run(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.pkl"
    path.write_bytes(pickle.dumps({"model": nn.Linear(1, 1)}))
    with pytest.raises(CheckpointError, match=r"run\.pkl: cannot be read as weights: refuses to run torch\."):
        build(folder / "vg.yaml", weights=path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("MODEL: {TYPO: 1}", "TYPO"),
        ("MODEL: [", "while parsing"),
        ("MODEL: {META_ARCHITECTURE: BUARCNN}", "cannot build this model.*BUARCNN"),
        ("MODEL: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_bad_configurations_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"bad\.yaml: 1 problem\n  config_file: .*{reason}"):
        build(path)


def test_one_stage_detectors_have_no_objectness(tmp_path: Path, picture: Image.Image) -> None:
    path = tmp_path / "retina.yaml"
    path.write_text(
        "MODEL: {META_ARCHITECTURE: RetinaNet, BACKBONE: {NAME: build_retinanet_resnet_fpn_backbone}, "
        "RESNETS: {DEPTH: 50, OUT_FEATURES: [res3, res4, res5], RES2_OUT_CHANNELS: 16, STEM_OUT_CHANNELS: 8, "
        "WIDTH_PER_GROUP: 4}, FPN: {IN_FEATURES: [res3, res4, res5], OUT_CHANNELS: 8}, "
        "ANCHOR_GENERATOR: {SIZES: [[32], [64], [128], [256], [512]]}}\n"
        "INPUT: {MIN_SIZE_TEST: 200}\n"
    )
    with pytest.raises(ConfigError, match="'objectness' needs a two-stage detector, not RetinaNet"):
        build(path)
    assert len(build(path, rank_by="class").propose([picture], ["a"])[0]) >= 1

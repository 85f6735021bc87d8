"""torchvision's detectors with random weights and with files of the published forms."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from heritage_align_plugins.faster_rcnn import torchvision_detector
from heritage_align_plugins.faster_rcnn.config import FasterRcnnConfig
from heritage_align_plugins.faster_rcnn.proposer import FasterRcnn
from heritage_align_plugins.faster_rcnn.torchvision_detector import TorchvisionDetector
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_Weights,
    fasterrcnn_mobilenet_v3_large_320_fpn,
    fasterrcnn_resnet50_fpn,
)

from heritage_align.errors import CheckpointError
from heritage_align.protocols import BuildContext, Proposer
from heritage_align.testing import parametrize_with_checks

SMALL = "mobilenet_v3_large_320_fpn"


def build(seed: int = 0, **settings: Any) -> FasterRcnn:
    config = FasterRcnnConfig.model_validate({"architecture": SMALL, "weights": "random", **settings})
    return FasterRcnn(config, BuildContext(seed=seed))


@pytest.fixture(scope="module")
def by_objectness() -> FasterRcnn:
    return build()


@pytest.fixture(scope="module")
def by_class() -> FasterRcnn:
    return build(rank_by="class", min_score=0.0)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """Stands for a trained model of three classes."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=3).eval()


def test_regions_are_inside_sorted_and_independent_of_the_batch(
    by_objectness: FasterRcnn, picture: Image.Image
) -> None:
    assert isinstance(by_objectness, Proposer)
    other = picture.rotate(90, expand=True)
    together = by_objectness.propose([picture, other, picture], ["a", "b", "c"])
    alone = by_objectness.propose([other], ["b"])[0]
    np.testing.assert_array_equal(together[1].boxes, alone.boxes)
    np.testing.assert_array_equal(together[0].boxes, together[2].boxes)
    assert len(together[0]) == 10
    for image, found in zip([picture, other], together):
        assert found.scores is not None
        assert (np.diff(found.scores) <= 0).all()
        assert (found.boxes[:, 2:] - found.boxes[:, :2] >= 1).all()
        assert found.boxes.min() >= 0
        assert (found.boxes[:, 2:] <= image.size).all()
    # The detector sees 320 pixels for 90: boxes that were not scaled back would be cut off at the border.
    assert together[0].boxes[:, 2].min() < 100


def test_seed_decides_random_weights(by_objectness: FasterRcnn, picture: Image.Image) -> None:
    before = torch.get_rng_state()
    again, other = build(), build(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    expected = by_objectness.propose([picture], ["a"])[0].boxes
    np.testing.assert_array_equal(again.propose([picture], ["a"])[0].boxes, expected)
    assert other.propose([picture], ["a"])[0].boxes.tolist() != expected.tolist()


@pytest.mark.parametrize("architecture", [SMALL, "resnet50_fpn"])
def test_objectness_is_that_of_the_models_own_proposals(architecture: str) -> None:
    config = FasterRcnnConfig.model_validate({"architecture": architecture, "weights": "random"})
    detector = TorchvisionDetector(config, BuildContext())
    small = torch.rand(3, 96, 128)
    detector.model.transform.min_size = (96,)
    with torch.inference_mode():
        images, _ = detector.model.transform([small])
        boxes, scores = detector._proposals(images, detector.model.backbone(images.tensors))
        (expected,), _ = detector.model.rpn(images, detector.model.backbone(images.tensors))
    assert torch.equal(boxes, expected)
    assert scores.shape == (len(boxes),)
    assert 0 < scores.min() <= scores.max() < 1


def test_class_scores_are_those_of_the_model(by_class: FasterRcnn, picture: Image.Image) -> None:
    detector = by_class._detector
    assert isinstance(detector, TorchvisionDetector)
    with torch.inference_mode():
        (raw,) = detector.model([torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255])
    (found,) = by_class.propose([picture], ["a"])
    assert found.scores is not None
    assert found.scores[0] == raw["scores"].max()
    wide = raw["boxes"][(raw["boxes"][:, 2:] - raw["boxes"][:, :2] >= 1).all(1)]
    assert set(map(tuple, found.boxes.tolist())) <= set(map(tuple, wide.tolist()))


def test_class_threshold_leaves_the_whole_picture(picture: Image.Image) -> None:
    (found,) = build(rank_by="class", min_score=0.9).propose([picture], ["a"])
    assert found.boxes.tolist() == [[0, 0, 130, 90]]
    assert found.scores is not None
    assert found.scores.tolist() == [0]


@pytest.mark.parametrize("size", [(1, 1), (1, 100), (100, 1), (3, 2), (1, 101), (4000, 3)])
def test_odd_sizes_have_regions(size: tuple[int, int], by_objectness: FasterRcnn, by_class: FasterRcnn) -> None:
    for proposer in (by_objectness, by_class):
        (found,) = proposer.propose([Image.new("RGB", size)], ["a"])
        assert len(found) >= 1
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
        assert (found.boxes[:, 2:] <= size).all()


@pytest.mark.parametrize("form", ["plain.pth", "wrapped.pth", "plain.safetensors"])
def test_weights_of_every_form_load(form: str, trained: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / form
    state = trained.state_dict()
    if form.endswith("safetensors"):
        save_file(dict(state), path)
    elif form == "wrapped.pth":
        torch.save({"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}, path)
    else:
        # Frozen batch normalisation, which the published files come from, has no step counters.
        torch.save({n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}, path)
    proposer = build(weights=str(path), rank_by="class", min_score=0.0)
    detector = proposer._detector
    assert isinstance(detector, TorchvisionDetector)
    pixels = torch.rand(3, 64, 64)
    with torch.inference_mode():
        ours, theirs = detector.model([pixels])[0], _every_score(trained)([pixels])[0]
    assert torch.equal(ours["scores"][:50], theirs["scores"][:50])
    assert len(ours["scores"]) >= 50


def _every_score(model: nn.Module) -> Any:
    model.roi_heads.score_thresh, model.roi_heads.nms_thresh = 0.0, 0.7  # type: ignore[union-attr]
    return model


def test_weights_of_another_architecture_are_refused(trained: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "small.pth"
    torch.save(trained.state_dict(), path)
    with pytest.raises(CheckpointError, match=r"small\.pth: does not fit the detector: \d+ missing \(backbone"):
        build(architecture="resnet50_fpn", weights=str(path))
    state = trained.state_dict()
    state["rpn.head.cls_logits.bias"] = torch.zeros(7)
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"1 of another shape \(rpn.head.cls_logits.bias \(7,\) instead of"):
        build(weights=str(path))


class Malicious:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('the file was run')",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.pth", "torch"),
        ("run.pkl", pickle.dumps({"model": Malicious()})),
        ("noise.pth", b"\x00" * 50),
        ("noise.safetensors", b"\x00" * 50),
        ("cut.pkl", pickle.dumps({"model": {}})[:-3]),
        ("list.pkl", pickle.dumps([1, 2])),
        ("word.pkl", pickle.dumps({"a": "b"})),
    ],
)
def test_files_that_are_no_weights_are_refused_and_never_run(name: str, content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / name
    if isinstance(content, str):
        torch.save({"model": Malicious()}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: (cannot read|refused|expected a state|begins with zeros)"):
        build(weights=str(path))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pth: there is no such checkpoint file"):
        build(weights=str(tmp_path / "gone.pth"))


def test_coco_weights_come_from_torchs_cache_and_lose_their_epsilon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    published = FasterRCNN_ResNet50_FPN_Weights.COCO_V1
    path = tmp_path / "hub" / "checkpoints" / published.url.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    torch.save(fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict(), path)
    theirs = fasterrcnn_resnet50_fpn(weights=published).eval()
    pixels = torch.rand(1, 3, 64, 64)

    def same(weights: str) -> bool:
        detector = TorchvisionDetector(FasterRcnnConfig.model_validate({"weights": weights}), BuildContext())
        with torch.inference_mode():
            ours, expected = detector.model.backbone(pixels), theirs.backbone(pixels)
        return all(torch.allclose(ours[k], expected[k], rtol=1e-5, atol=1e-6) for k in expected)

    assert same("coco")
    # The same file under its path: its digest is not the published one, so that its epsilon stays.
    assert not same(str(path))
    digest = torchvision_detector._sha256(path)
    monkeypatch.setattr(torchvision_detector, "_EPS_0_SHA", digest[:8])
    assert same(str(path))
    path.unlink()


def test_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise URLError(f"no route to host, {arguments} {options}")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(CheckpointError, match=r"'coco' could not be fetched .*no route.*download https://.*320_fpn"):
        build(weights="coco")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("rank_by", ["objectness", "class"])
def test_cuda_finds_the_regions_of_the_cpu(rank_by: str, picture: Image.Image) -> None:
    config = FasterRcnnConfig.model_validate(
        {
            "architecture": "resnet50_fpn",
            "weights": "random",
            "rank_by": rank_by,
            "min_score": 0.0,
            "count": 5,
        }
    )
    on_cpu, on_gpu = (
        FasterRcnn(config, BuildContext(device=device)).propose([picture], ["a"])[0] for device in ("cpu", "cuda")
    )
    assert on_gpu.scores is not None
    assert on_cpu.scores is not None
    np.testing.assert_allclose(on_gpu.scores, on_cpu.scores, rtol=1e-2)


@parametrize_with_checks([("proposer", "faster_rcnn", {"architecture": SMALL, "weights": "random"})])
def test_conformance(check: Callable[[], None]) -> None:
    check()

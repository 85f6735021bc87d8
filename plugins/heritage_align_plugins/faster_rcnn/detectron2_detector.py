"""Faster R-CNN by detectron2, which is not on the package index and is looked for only here."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn

from heritage_align.plugin import (
    BuildContext,
    ConfigError,
    MissingDependency,
    fitted,
    read_tensors,
    refuse_not_finite,
)
from heritage_align_plugins.faster_rcnn.config import FasterRcnnConfig
from heritage_align_plugins.faster_rcnn.weights import read_arrays, require_fit

INSTALL = (
    "it is not on the package index and must be built against the torch that is installed: "
    "pip install 'setuptools<81' wheel ninja && "
    "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2' 'iopath<0.1.10'"
)

try:
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import get_cfg
    from detectron2.data.transforms import ResizeShortestEdge
    from detectron2.modeling import build_model
    from detectron2.structures import Boxes

    from heritage_align_plugins.faster_rcnn.bottom_up import (
        add_bottom_up_options,
        apply_bottom_up_options,
        translate_bottom_up_options,
    )
except ImportError as error:  # also a build for another torch, whose symbols are not found
    raise MissingDependency(f"proposer faster_rcnn, provider detectron2: {error}; {INSTALL}") from error


class View:
    """A picture on its way through the model; what a question does not need is not computed.

    Attributes:
        inputs: the model's input, one picture resized.
        scale: factors ``(4,)`` from pixels of the resized picture to its own.
    """

    def __init__(self, model: Any, inputs: list[dict[str, Any]], scale: Tensor) -> None:
        self._model = model
        self.inputs = inputs
        self.scale = scale

    @cached_property
    def batch(self) -> Any:
        """The normalised picture."""
        return self._model.preprocess_image(self.inputs)

    @cached_property
    def maps(self) -> dict[str, Tensor]:
        """The backbone's maps by name."""
        maps: dict[str, Tensor] = self._model.backbone(self.batch.tensor)
        return maps


class Detectron2Detector:
    """The model that a YAML configuration of detectron2 describes.

    Configurations of the Visual Genome detectors of bottom-up attention (Anderson et al. 2018), as converted
    for detectron2, are understood too: see `bottom_up`.
    """

    def __init__(self, config: FasterRcnnConfig, context: BuildContext) -> None:
        """Build the model and load its weights; raises ConfigError and CheckpointError (see `FasterRcnn`)."""
        cfg = _read_config(config)
        cfg.MODEL.DEVICE = context.device
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = config.min_score
        cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = config.nms
        cfg.TEST.DETECTIONS_PER_IMAGE = max(100, 10 * config.count)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(context.seed)
                self.model: Any = build_model(cfg)
                apply_bottom_up_options(self.model, cfg)
        except (KeyError, ValueError, AssertionError, AttributeError) as error:
            problem = f"config_file: detectron2 cannot build this model: {error}"
            raise ConfigError([problem], _name(config)) from error
        self.by_class = config.rank_by == "class"
        if not self.by_class and not hasattr(self.model, "proposal_generator"):
            problem = f"rank_by: 'objectness' needs a two-stage detector, not {type(self.model).__name__}"
            raise ConfigError([problem], _name(config))
        if isinstance(config.weights, Path):
            _load(self.model, config.weights)
        self.model.eval()
        self.dim = _pooled_dim(self.model)
        if config.features == "pooled" and self.dim is None:
            problem = f"features: 'pooled' needs a detector with one box head, not {_heads_name(self.model)}"
            raise ConfigError([problem], _name(config))
        self.bgr = cfg.INPUT.FORMAT == "BGR"
        self.resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)

    def view(self, image: Image) -> View:
        """Resize a picture as the configuration says."""
        pixels = np.asarray(image.convert("RGB"))
        if self.bgr:
            pixels = pixels[:, :, ::-1]
        resized = self.resize.get_transform(pixels).apply_image(pixels)
        tensor = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1), dtype=np.float32))
        height, width = resized.shape[:2]
        scale = torch.tensor([image.width / width, image.height / height] * 2, device=self.model.device)
        return View(self.model, [{"image": tensor, "height": image.height, "width": image.width}], scale)

    def detect(self, view: View) -> tuple[Tensor, Tensor]:
        """Return boxes in pixels of the picture and their scores (see `proposer.Detector`)."""
        if self.by_class:
            found = self.model(view.inputs)[0]["instances"]
            return found.pred_boxes.tensor, found.scores
        (proposals,), _ = self.model.proposal_generator(view.batch, view.maps, None)
        return proposals.proposal_boxes.tensor * view.scale, proposals.objectness_logits.sigmoid()

    def pool(self, view: View, boxes: Tensor) -> Tensor:
        """Return ``(n, dim)`` of boxes in pixels of the picture.

        Of a C4 model (bottom-up attention's) the mean of the fifth stage's map over the region, 2048 wide for a
        ResNet-101; otherwise what the box head makes of the pooled region.

        Raises:
            ValueError: the model has no box head, or one a stage.
        """
        if self.dim is None:
            raise ValueError(f"{_heads_name(self.model)} has no features of boxes")
        heads = self.model.roi_heads
        inside = [Boxes(boxes.to(view.scale.device) / view.scale)]
        if hasattr(heads, "res5"):
            pooled: Tensor = heads.res5(heads.pooler([view.maps[name] for name in heads.in_features], inside))
            return pooled.mean(dim=(2, 3))
        head: Tensor = heads.box_head(heads.box_pooler([view.maps[name] for name in heads.box_in_features], inside))
        return head.flatten(1)


def _pooled_dim(model: Any) -> int | None:
    """Return the width of what the classifier of the second stage takes; None where there is none, or several."""
    heads = getattr(model, "roi_heads", None)
    predictor = getattr(heads, "box_predictor", None)
    if predictor is None or isinstance(predictor, nn.ModuleList):
        return None
    dim: int = predictor.cls_score.in_features
    return dim


def _heads_name(model: Any) -> str:
    return type(getattr(model, "roi_heads", model)).__name__


def _name(config: FasterRcnnConfig) -> str:
    return str(config.config_file)


def _read_config(config: FasterRcnnConfig) -> Any:
    cfg = get_cfg()
    add_bottom_up_options(cfg)
    try:
        # By default detectron2 reads a second time with yaml.unsafe_load where safe_load fails.
        cfg.merge_from_file(str(config.config_file), allow_unsafe=False)
    except Exception as error:  # yacs raises KeyError, ValueError and AssertionError, PyYAML its own errors
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError([f"config_file: {first_line}"], _name(config)) from error
    translate_bottom_up_options(cfg)
    return cfg


class _SafeCheckpointer(DetectionCheckpointer):
    """detectron2's matching of names and shapes, on files that are read without running what they say."""

    incompatible: Any = None

    def _load_file(self, filename: str) -> dict[str, Any]:
        if not filename.endswith(".pkl"):
            return {"model": fitted(read_tensors(Path(filename)), self.model.state_dict(), filename)}
        content = read_arrays(Path(filename))
        if "model" in content:
            return content
        # From Caffe2, whose names differ.
        blobs = content.get("blobs", content)
        weights = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
        return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        self.incompatible = super()._load_model(checkpoint)
        return self.incompatible


def _load(model: Any, path: Path) -> None:
    checkpointer = _SafeCheckpointer(model)
    checkpointer.load(str(path))
    found = checkpointer.incompatible
    shapes = [f"{name} {tuple(given)} instead of {tuple(own)}" for name, given, own in found.incorrect_shapes]
    wrong = {name for name, _, _ in found.incorrect_shapes}
    # Weights that the model has no place for, such as those of an attribute head, are none of its faults.
    require_fit(str(path), [name for name in found.missing_keys if name not in wrong], [], shapes)
    refuse_not_finite(model.state_dict(), str(path))

"""Faster R-CNN by torchvision."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError

import torch
from PIL.Image import Image
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.transforms.functional import convert_image_dtype, pil_to_tensor

from heritage_align.plugin import BuildContext, CheckpointError, fitted, read_tensors, refuse_not_finite
from heritage_align_plugins.faster_rcnn.config import FasterRcnnConfig
from heritage_align_plugins.faster_rcnn.weights import require_fit

_EPS_0_SHA = "258fb6c6"
"""First digits of the SHA-256 of torchvision's COCO_V1 weights of resnet50_fpn, as in their file name: they
were trained without an epsilon in batch normalisation, and torchvision sets it to 0 for these alone."""

_STEPS = "num_batches_tracked"
"""A counter of training steps, which the frozen batch normalisation of the published files does not have."""

_CLASS_WEIGHT = "roi_heads.box_predictor.cls_score.weight"


_SQUARE = 64
"""Side in pixels of the picture from which the pooling learns the strides of the maps: a multiple of all of them."""


class View(NamedTuple):
    """A picture as the model sees it: its own size ``(height, width)``, resized, and the backbone's maps."""

    size: tuple[int, int]
    resized: ImageList
    maps: dict[str, Tensor]

    def scale(self, device: torch.device) -> Tensor:
        """Return the factors ``(4,)`` from pixels of the resized picture to its own."""
        (height, width), (resized_height, resized_width) = self.size, self.resized.image_sizes[0]
        return torch.tensor([width / resized_width, height / resized_height] * 2, device=device)


class TorchvisionDetector:
    """One of torchvision's Faster R-CNN models."""

    def __init__(self, config: FasterRcnnConfig, context: BuildContext) -> None:
        """Build the model and load its weights; raises CheckpointError (see `FasterRcnn`)."""
        self.by_class = config.rank_by == "class"
        self.device = torch.device(context.device)
        self.model: Any = _model(config, context.seed).to(self.device).eval()
        self.dim = self._show_a_square()

    @torch.inference_mode()
    def _show_a_square(self) -> int:
        """Let the pooling infer the strides of the maps, which it does from its first picture and keeps.

        A picture 100 times as long as wide would teach it 1/16 for 1/32, for itself and all that come after.

        Returns:
            The width of the pooled features.
        """
        heads = self.model.roi_heads
        maps = self.model.backbone(torch.zeros(1, 3, _SQUARE, _SQUARE, device=self.device))
        box = torch.tensor([[0.0, 0.0, _SQUARE, _SQUARE]], device=self.device)
        return int(heads.box_head(heads.box_roi_pool(maps, [box], [(_SQUARE, _SQUARE)])).shape[1])

    def view(self, image: Image) -> View:
        """Resize a picture and run the backbone on it."""
        pixels = convert_image_dtype(pil_to_tensor(image.convert("RGB")).to(self.device), torch.float32)
        resized, _ = self.model.transform([pixels])
        return View((image.height, image.width), resized, self.model.backbone(resized.tensors))

    def detect(self, view: View) -> tuple[Tensor, Tensor]:
        """Return boxes in pixels of the picture and their scores (see `proposer.Detector`)."""
        if self.by_class:
            # What the model's own forward does after its backbone.
            sizes = view.resized.image_sizes
            proposals, _ = self.model.rpn(view.resized, view.maps)
            detections, _ = self.model.roi_heads(view.maps, proposals, sizes)
            (found,) = self.model.transform.postprocess(detections, sizes, [view.size])
            return found["boxes"], found["scores"]
        boxes, scores = self._proposals(view.resized, view.maps)
        return boxes * view.scale(boxes.device), scores

    def pool(self, view: View, boxes: Tensor) -> Tensor:
        """Return ``(n, dim)`` of boxes in pixels of the picture: RoIAlign, then the box head's layers."""
        inside = boxes.to(self.device) / view.scale(self.device)
        heads = self.model.roi_heads
        features: Tensor = heads.box_head(heads.box_roi_pool(view.maps, [inside], view.resized.image_sizes))
        return features

    def _proposals(self, images: ImageList, maps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Do what `RegionProposalNetwork.forward` does, which throws the objectness away at the end."""
        rpn = self.model.rpn
        features = list(maps.values())
        objectness, deltas = rpn.head(features)
        anchors = rpn.anchor_generator(images, features)
        per_level = [level[0].numel() for level in objectness]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        proposals = rpn.box_coder.decode(deltas, anchors).view(len(anchors), -1, 4)
        boxes, scores = rpn.filter_proposals(proposals, objectness, images.image_sizes, per_level)
        return boxes[0], scores[0]


def _model(config: FasterRcnnConfig, seed: int) -> nn.Module:
    state: dict[str, Tensor] | None = None
    source = str(config.weights)
    if isinstance(config.weights, Path):
        state = read_tensors(config.weights)
    elif config.weights == "coco":
        state = _download(config.architecture)
    options: dict[str, Any] = {
        "box_score_thresh": config.min_score,
        "box_nms_thresh": config.nms,
        # Twice suppressed, per class and then across classes: enough for the second to choose from.
        "box_detections_per_img": max(100, 10 * config.count),
    }
    classes = [value for name, value in (state or {}).items() if name.endswith(_CLASS_WEIGHT)]
    if classes:
        options["num_classes"] = len(classes[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = get_model(
            f"fasterrcnn_{config.architecture}", weights=None, weights_backbone=None, **options
        )
    if state is None:
        return model
    _load(model, state, source)
    if _without_epsilon(config):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    return model


def _load(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    own = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    given = {
        name: value for name, value in fitted(state, own, source).items() if not name.endswith("num_batches_tracked")
    }
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in given and given[name].shape != value.shape
    ]
    require_fit(source, own.keys() - given.keys(), given.keys() - own.keys(), shapes)
    refuse_not_finite(given, source)
    model.load_state_dict(given, strict=False)


def _without_epsilon(config: FasterRcnnConfig) -> bool:
    if config.architecture != "resnet50_fpn":
        return False
    if not isinstance(config.weights, Path):
        return config.weights == "coco"
    return _sha256(config.weights).startswith(_EPS_0_SHA)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _download(architecture: str) -> dict[str, Tensor]:
    weights = get_model_weights(f"fasterrcnn_{architecture}").DEFAULT
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, URLError) as error:
        raise CheckpointError(
            f"weights: 'coco' could not be fetched ({error}); download {weights.url} elsewhere and set "
            "weights to the file"
        ) from error
    return state

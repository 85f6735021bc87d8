"""Regions of a detector: clipped, suppressed across classes, the best n, with the features of its second stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image as Pillow
from PIL.Image import Image
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, nms

from heritage_align.plugin import BuildContext, DataError, FloatArray, Regions
from heritage_align_plugins.faster_rcnn.config import FasterRcnnConfig

LONGEST_STRIP = 100
"""Side ratio beyond which no detector runs: at 1333 : 13 pixels nothing is left of its feature map."""


class Detector(Protocol):
    """One provider's model."""

    @property
    def dim(self) -> int | None:
        """Width of the pooled features, None for a model without a second stage."""

    def view(self, image: Image) -> Any:
        """Take a picture in, so that several questions about it run the backbone once."""

    def detect(self, view: Any) -> tuple[Tensor, Tensor]:
        """Return boxes ``(n, 4)``, xyxy in pixels of the picture, and scores ``(n,)``, in any order."""

    def pool(self, view: Any, boxes: Tensor) -> Tensor:
        """Return ``(n, dim)``, what the second stage makes of boxes ``(n, 4)`` in pixels of the picture."""


class FasterRcnn:
    """Proposes the best boxes of a detector.

    Pictures go through the detector one by one: in a batch they would be padded to a common size, and a
    picture's regions would depend on its neighbours. They go in fp32 whatever the run's precision, which is
    for the encoder.

    With ``features: pooled`` the regions come with what the second stage computes of them before it decides on
    classes, and the picture with what it computes of the picture as one box (Sheng et al. 2021, section 5.3).

    Attributes:
        dim: width of the pooled features; None for a model of detectron2 that has none.
    """

    def __init__(self, config: FasterRcnnConfig, context: BuildContext) -> None:
        """Load the detector.

        Raises:
            MissingDependency: provider detectron2 is not installed; says how to install it.
            CheckpointError: the weights cannot be read, fetched, or do not fit the model.
            ConfigError: detectron2 does not accept its configuration file.
        """
        self.config = config
        self._detector = build_detector(config, context)
        self.dim = self._detector.dim

    def propose(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions]:
        """Return 1 to `count` regions a picture, best first.

        Where the detector finds nothing, and in a strip more than 100 times as long as wide, which it cannot
        take, the whole picture is the only region, with score 0.
        """
        return [self._regions(image) for image in images]

    def features_of(self, image: Image, boxes: FloatArray) -> FloatArray:
        """Return the second stage's features of given boxes, as those of golden fragments in Sheng et al. 2021.

        Args:
            image: an upright RGB picture.
            boxes: ``(n, 4)`` xyxy in pixels; clipped to the picture.

        Returns:
            ``(n, dim)`` float32.

        Raises:
            DataError: names the first box that has no area within the picture.
            ValueError: boxes of another shape, or a detector without a second stage.
        """
        given = np.asarray(boxes, dtype=np.float32)
        if given.ndim != 2 or given.shape[1] != 4:
            raise ValueError(f"boxes: expected (n, 4), got {given.shape}")
        clipped = given.clip(0, np.array([*image.size, *image.size], dtype=np.float32))
        bare = ~(clipped[:, 2:] > clipped[:, :2]).all(1)
        if bare.any():
            box = given[int(np.argmax(bare))].tolist()
            raise DataError(f"box {box} has no area within its picture of {image.width} x {image.height} pixels")
        with torch.inference_mode():
            return self._pooled(self._detector.view(_not_too_long(image)), clipped)

    def _regions(self, image: Image) -> Regions:
        pooled, strip = self.config.features == "pooled", _is_strip(image)
        if strip and not pooled:
            return whole_picture(image)
        with torch.inference_mode():
            view = self._detector.view(_not_too_long(image))
            if strip:
                found = whole_picture(image)
            else:
                boxes, scores = self._detector.detect(view)
                found = best_regions(boxes.float().cpu(), scores.float().cpu(), image, self.config)
            if pooled:
                rows = self._pooled(view, np.concatenate([found.boxes, whole_picture(image).boxes]))
                found.features, found.global_feature = rows[:-1], rows[-1]
        return found

    def _pooled(self, view: Any, boxes: FloatArray) -> FloatArray:
        pooled: FloatArray = self._detector.pool(view, torch.from_numpy(boxes)).float().cpu().numpy()
        return pooled


def build_detector(config: FasterRcnnConfig, context: BuildContext) -> Detector:
    """Import the provider that is asked for and no other."""
    if config.provider == "torchvision":
        from heritage_align_plugins.faster_rcnn.torchvision_detector import TorchvisionDetector

        return TorchvisionDetector(config, context)
    from heritage_align_plugins.faster_rcnn.detectron2_detector import Detectron2Detector

    return Detectron2Detector(config, context)


def best_regions(boxes: Tensor, scores: Tensor, image: Image, config: FasterRcnnConfig) -> Regions:
    """Clip ``(n, 4)`` boxes to the picture, drop the narrow and the overlapping, keep the best `count`."""
    boxes = clip_boxes_to_image(boxes, (image.height, image.width))
    sides = boxes[:, 2:] - boxes[:, :2]
    usable = (sides >= config.min_side).all(1) & (sides > 0).all(1) & scores.isfinite()
    boxes, scores = boxes[usable], scores[usable]
    kept = nms(boxes, scores, config.nms)[: config.count]
    if not len(kept):
        return whole_picture(image)
    return Regions(boxes[kept].numpy(), scores[kept].numpy())


def whole_picture(image: Image) -> Regions:
    """Return one region that is the picture, with score 0."""
    box = np.array([[0, 0, image.width, image.height]], dtype=np.float32)
    return Regions(box, np.zeros(1, dtype=np.float32))


def _is_strip(image: Image) -> bool:
    return max(image.size) > LONGEST_STRIP * min(image.size)


def _not_too_long(image: Image) -> Image:
    """Return the picture, a strip with black at its right or bottom, so that a detector can take it in."""
    if not _is_strip(image):
        return image
    shortest = -(-max(image.size) // LONGEST_STRIP)
    canvas = Pillow.new("RGB", (max(image.width, shortest), max(image.height, shortest)))
    canvas.paste(image)
    return canvas

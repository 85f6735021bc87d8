"""Regions of a detector: clipped, suppressed across classes, the best n."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, nms

from heritage_align.protocols import BuildContext
from heritage_align.types import Regions
from heritage_align_plugins.faster_rcnn.config import FasterRcnnConfig

LONGEST_STRIP = 100
"""Side ratio beyond which no detector runs: at 1333 : 13 pixels nothing is left of its feature map."""


class Detector(Protocol):
    """One provider's model."""

    def detect(self, image: Image) -> tuple[Tensor, Tensor]:
        """Return boxes ``(n, 4)``, xyxy in pixels of the picture, and scores ``(n,)``, in any order."""


class FasterRcnn:
    """Proposes the best boxes of a detector.

    Pictures go through the detector one by one: in a batch they would be padded to a common size, and a
    picture's regions would depend on its neighbours. They go in fp32 whatever the run's precision, which is
    for the encoder.
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

    def propose(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions]:
        """Return 1 to `count` regions a picture, best first.

        Where the detector finds nothing, and in a strip more than 100 times as long as wide, which it cannot
        take, the whole picture is the only region, with score 0.
        """
        return [self._regions(image) for image in images]

    def _regions(self, image: Image) -> Regions:
        if max(image.size) > LONGEST_STRIP * min(image.size):
            return whole_picture(image)
        with torch.inference_mode():
            boxes, scores = self._detector.detect(image)
        return best_regions(boxes.float().cpu(), scores.float().cpu(), image, self.config)


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

"""The regions of another proposer, each described by what an encoder makes of its crop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL.Image import Image

from heritage_align.encoding import pixel_box
from heritage_align.plugin import BuildContext, ConfigError, Encoder, FloatArray, Proposer, Regions
from heritage_align_plugins.encoded.config import EncodedConfig


class Encoded:
    """Gives an encoder's vectors as features: of the regions, of the whole picture and of any box.

    With it what is made for a detector's features works on any encoder and any boxes: changed copies of regions
    (proposer ``augmented``), fine-tuning on golden boxes, a file of region features.

    Attributes:
        dim: width of the features, that of the encoder's space.
    """

    def __init__(self, config: EncodedConfig, context: BuildContext) -> None:
        """Take the wrapped proposer and the encoder."""
        self.config = config
        self._inner: Proposer = context.nested["proposer"]
        self._encoder: Encoder = context.nested["encoder"]
        self.dim = self._encoder.dim

    def propose(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions]:
        """Return the regions with features ``(n_regions, dim)`` and the feature of the whole picture.

        Raises:
            ConfigError: the wrapped proposer gives patches, which no crop is the same as.
        """
        return [self._described(*row) for row in zip(images, self._inner.propose(images, ids), strict=True)]

    def features_of(self, image: Image, boxes: Sequence[Sequence[float]]) -> FloatArray:
        """Return the vectors of boxes in pixels ``(n_boxes, dim)`` float32, each encoded as a picture of its own."""
        parts = [np.empty((0, self.dim), dtype=np.float32)]
        for start in range(0, len(boxes), self.config.batch_size):
            crops = [image.crop(pixel_box(box)) for box in boxes[start : start + self.config.batch_size]]
            with torch.inference_mode():
                pixels = torch.stack([self._encoder.prepare(crop) for crop in crops])
                parts.append(self._encoder.encode_pixels(pixels).global_features.float().cpu().numpy())
        return np.concatenate(parts)

    def _described(self, image: Image, regions: Regions) -> Regions:
        if regions.grid is not None:
            name = self.config.proposer.get("name")
            raise ConfigError([f"proposer.proposer: {name!r} gives patches, not boxes to cut out; take mode: windows"])
        whole = [0.0, 0.0, float(image.width), float(image.height)]
        rows = self.features_of(image, [*regions.boxes.tolist(), whole])
        return replace(regions, features=rows[:-1], global_feature=rows[-1])

"""The regions of another proposer, each described by what an encoder makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from PIL.Image import Image

from heritage_align.encoding import pixel_box
from heritage_align.ops import Ragged
from heritage_align.plugin import BuildContext, ConfigError, Encoder, FloatArray, Proposer, RegionEncoder, Regions
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
        pools = isinstance(self._encoder, RegionEncoder) and self._encoder.pools_regions
        self._pooling = cast(RegionEncoder, self._encoder) if pools else None
        self.dim = self._encoder.dim

    def propose(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions]:
        """Return the regions with features ``(n_regions, dim)`` and the feature of the whole picture.

        Raises:
            ConfigError: the wrapped proposer gives patches, which no crop is the same as.
        """
        return [self._described(*row) for row in zip(images, self._inner.propose(images, ids), strict=True)]

    def features_of(self, image: Image, boxes: Sequence[Sequence[float]]) -> FloatArray:
        """Return the vectors of boxes in pixels ``(n_boxes, dim)`` float32, each encoded as a picture of its own, or
        all pooled from one forward pass where the encoder's settings say so."""
        if self._pooling is not None:
            return self._pooled(self._pooling, image, boxes)[0]
        parts = [np.empty((0, self.dim), dtype=np.float32)]
        for start in range(0, len(boxes), self.config.batch_size):
            crops = [image.crop(pixel_box(box)) for box in boxes[start : start + self.config.batch_size]]
            with torch.inference_mode():
                pixels = torch.stack([self._encoder.prepare(crop) for crop in crops])
                parts.append(self._encoder.encode_pixels(pixels).global_features.float().cpu().numpy())
        return np.concatenate(parts)

    @staticmethod
    @torch.inference_mode()
    def _pooled(
        encoder: RegionEncoder, image: Image, boxes: Sequence[Sequence[float]]
    ) -> tuple[FloatArray, FloatArray]:
        """Return the vectors of boxes ``(n_boxes, dim)`` and of the whole picture ``(dim,)``."""
        size = torch.tensor([image.width, image.height] * 2, dtype=torch.float32)
        fractions = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) / size
        encoded = encoder.encode_regions(
            encoder.prepare(image)[None], Ragged(fractions, torch.tensor([0, len(fractions)]))
        )
        return encoded.regions.float().cpu().numpy(), encoded.global_features[0].float().cpu().numpy()

    def _described(self, image: Image, regions: Regions) -> Regions:
        if regions.grid is not None:
            name = self.config.proposer.get("name")
            raise ConfigError([f"proposer.proposer: {name!r} gives patches, not boxes to cut out; take mode: windows"])
        if self._pooling is not None:
            rows, whole_row = self._pooled(self._pooling, image, regions.boxes.tolist())
            return replace(regions, features=rows, global_feature=whole_row)
        whole = [0.0, 0.0, float(image.width), float(image.height)]
        rows = self.features_of(image, [*regions.boxes.tolist(), whole])
        return replace(regions, features=rows[:-1], global_feature=rows[-1])

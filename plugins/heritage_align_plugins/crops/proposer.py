"""Random crops of a picture, reproducible image by image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from heritage_align.plugin import BuildContext, FloatArray, Regions
from heritage_align_plugins.crops.config import RandomCropsConfig


class RandomCrops:
    """Crops of side ``int(U(low, high) * min(height, width))`` at a uniform place (Li et al. 2024, code), or of area
    ``U(low, high) * height * width``.

    The draws depend on the run's seed and the picture's id alone, neither on the batch nor on its order. The
    first k crops are the same whatever the count, so that a larger count extends a smaller one.
    """

    def __init__(self, config: RandomCropsConfig, context: BuildContext) -> None:
        """Keep the settings and the run's seed."""
        self.config = config
        self.seed = context.seed

    def propose(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions]:
        """Return `count` crops a picture, with whole pixels as edges and at least one pixel each."""
        return [Regions(self._boxes(image, image_id)) for image, image_id in zip(images, ids, strict=True)]

    def _boxes(self, image: Image, image_id: str) -> FloatArray:
        # One row of four draws a crop (size, aspect, x, y), drawn whether used or not: see the class.
        size, aspect, x, y = self._generator(image_id).random((self.config.count, 4)).T
        low, high = self.config.scale
        part = low + (high - low) * size
        if self.config.scale_of == "area":
            side = np.sqrt(part * image.width * image.height)
        else:
            side = part * min(image.width, image.height)
        stretch = np.ones_like(side)
        if self.config.aspect is not None:
            shortest, longest = np.log(self.config.aspect)
            stretch = np.exp((shortest + (longest - shortest) * aspect) / 2)
        # The released code truncates to 0 pixels where side < 1 and fails; a crop here has at least one.
        width = np.clip(np.floor(side * stretch), 1, image.width)
        height = np.clip(np.floor(side / stretch), 1, image.height)
        left = np.floor(x * (image.width - width + 1))
        top = np.floor(y * (image.height - height + 1))
        return np.stack([left, top, left + width, top + height], axis=1).astype(np.float32)

    def _generator(self, image_id: str) -> np.random.Generator:
        # hash() of a str differs from process to process, hence a digest.
        digest = hashlib.blake2b(f"{self.seed}\0{image_id}".encode(), digest_size=16).digest()
        return np.random.default_rng(int.from_bytes(digest, "big"))

"""Regions on a regular grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from PIL.Image import Image

from heritage_align.encoding import grid_of
from heritage_align.plugin import BuildContext, ConfigError, Encoder, FlexibleEncoder, FloatArray, Regions
from heritage_align_plugins.grids.config import PatchGridConfig


class PatchGrid:
    """Proposes the same fractions of every picture; nothing is random and nothing is looked at.

    An encoder whose patches follow the shape of a picture gets that picture's grid in mode ``tokens``. The boxes assume
    that the encoder sees the whole picture, as Chinese-CLIP does, which squeezes it into a square. An encoder that
    crops the centre sees less than its boxes then say.
    """

    def __init__(self, config: PatchGridConfig, context: BuildContext) -> None:
        """Take the encoder.

        Raises:
            ConfigError: mode ``tokens`` with an encoder that has no patches (a ResNet).
        """
        self._encoder = context.encoder if config.mode == "tokens" else None
        if config.mode == "tokens" and (self._encoder is None or not _has_patches(self._encoder)):
            raise ConfigError(["proposer.mode: 'tokens' needs an encoder with patches (a ViT); use mode: windows"])
        self._fractions = np.concatenate([_windows(scale, config.overlap) for scale in config.scales])

    def propose(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions]:
        """Return one grid a picture, row by row, in mode ``windows`` scale after scale.

        Tokens keep their exact, fractional edges. Windows are widened to whole pixels, so that in a picture
        with fewer pixels than windows every window still has one.
        """
        return [self._regions(image) for image in images]

    def _regions(self, image: Image) -> Regions:
        size = np.array([image.width, image.height, image.width, image.height])
        grid = None if self._encoder is None else grid_of(self._encoder, image)
        boxes = (self._fractions if grid is None else _cells(*grid)) * size
        if grid is None:
            # An edge that is off a whole pixel by rounding alone (0.3 * 10 = 3.0000000000000004) stays there.
            boxes[:, :2] = np.floor(boxes[:, :2] + 1e-6)
            boxes[:, 2:] = np.ceil(boxes[:, 2:] - 1e-6)
        return Regions(np.clip(boxes, 0, size).astype(np.float32), grid=grid)


def _has_patches(encoder: Encoder) -> bool:
    return encoder.patch_grid is not None or isinstance(encoder, FlexibleEncoder)


@lru_cache(maxsize=256)
def _cells(rows: int, columns: int) -> FloatArray:
    """Return the cells of a grid without overlap, ``(rows * columns, 4)`` xyxy as fractions."""
    y, x = np.divmod(np.arange(rows * columns), columns)
    return np.stack([x / columns, y / rows, (x + 1) / columns, (y + 1) / rows], axis=1)


def _windows(scale: int, overlap: float) -> FloatArray:
    """Return ``(scale**2, 4)`` fractions: `scale` windows of side s at stride s (1 - overlap) span a side."""
    side = 1.0 / (scale - (scale - 1) * overlap)
    starts = [i * side * (1.0 - overlap) for i in range(scale)]

    def boxes() -> Iterator[tuple[float, float, float, float]]:
        for y in starts:
            for x in starts:
                yield x, y, x + side, y + side

    return np.array(list(boxes()))

"""Pictures of FG-CLIP 2: resized to whole patches in their own shape, and packed so that all are of one size.

A packed picture is ``(3, patch * patch, n + 1)``: the pixels of n patches, row by row, unused ones zero; the last
column holds the rows and the columns of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Grid = tuple[int, int]
STEPS = (128, 256, 576, 784, 1024)
"""Patches of a picture at most, in the steps that the model was trained with."""


def most_patches(width: int, height: int, patch: int) -> int:
    """Return the least of `STEPS` that holds a picture at its own size, the largest for one that none holds."""
    own = (width // patch) * (height // patch)
    # As published: 785 patches and more are given 1024, 129 and more 256.
    return next((step for step in STEPS if own <= step), STEPS[-1])


@lru_cache(maxsize=4096)
def grid_of(width: int, height: int, patch: int, most: int) -> Grid:
    """Return the rows and columns of patches of a picture, at most `most` together, at least one each.

    Both sides are multiplied by one factor and rounded up to whole patches; the factor is the largest that fits, found
    by halving from [1e-6, 100] to within 1e-5 (Siglip2's image processor, which FG-CLIP 2 takes over).
    """

    def cells(scale: float) -> Grid:
        rows, columns = (max(1, math.ceil(side * scale / patch)) for side in (height, width))
        return rows, columns

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        middle = (low + high) / 2
        low, high = (middle, high) if math.prod(cells(middle)) <= most else (low, middle)
    return cells(low)


def pack(
    image: Image.Image, grid: Grid, patch: int, capacity: int, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Resize, normalise and pack an RGB picture; ``(3, patch * patch, capacity + 1)`` float32."""
    rows, columns = grid
    resized = image.resize((columns * patch, rows * patch), Image.Resampling.BILINEAR)
    levels = torch.from_numpy(np.array(resized)).reshape(rows, patch, columns, patch, 3)
    packed = torch.zeros(3, patch * patch, capacity + 1)
    cells = packed[:, :, : rows * columns]
    # Bytes are brought into order before they are numbers of four times their size.
    cells.copy_(levels.permute(4, 1, 3, 0, 2).reshape(3, patch * patch, -1)).div_(255)
    cells.sub_(torch.tensor(mean).view(3, 1, 1)).div_(torch.tensor(std).view(3, 1, 1))
    packed[0, :2, -1] = torch.tensor([rows, columns], dtype=torch.float32)
    return packed


class Packed:
    """A batch of packed pictures.

    Args:
        pixels: ``(n, 3, patch * patch, capacity + 1)``.
    """

    def __init__(self, pixels: Tensor) -> None:
        self._pixels = pixels
        self.grids: list[Grid] = [(int(rows), int(columns)) for rows, columns in pixels[:, 0, :2, -1].tolist()]

    @cached_property
    def counts(self) -> list[int]:
        """Patches of each picture."""
        return [rows * columns for rows, columns in self.grids]

    def rows(self) -> Tensor:
        """Return ``(n, most, patch * patch * 3)``, no more than the largest picture of the batch has."""
        return self._pixels[..., : max(self.counts)].permute(0, 3, 2, 1).flatten(2)

    def padding(self) -> Tensor | None:
        """Return ``(n, most)`` bool, True for no patch of a picture; None where all pictures have as many."""
        if min(self.counts) == max(self.counts):
            return None
        counts = torch.tensor(self.counts, device=self._pixels.device)
        return torch.arange(max(self.counts), device=self._pixels.device) >= counts[:, None]

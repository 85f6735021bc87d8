"""Pillow's resizing as two matrix products, so that it runs in batches on any device.

Pillow resizes rows, rounds to 8 bits, resizes columns and rounds again. Each step is a product with a matrix of the
filter's weights; with the same weights, order and rounding the results differ by one level at the few values that lie
within fp32's error of a tie, 1 in 10,000 on photographs (at more where somebody lets torch multiply in TF32).
``torch.nn.functional.interpolate(antialias=True)`` rounds nothing in between, and its CUDA kernel refuses scales of
about 45 and more (a scan of 10,000 pixels), for want of shared memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice

import PIL
import torch
from packaging.version import Version
from torch import Tensor

from heritage_align.protocols import PixelRecipe

# From 13 on Pillow begins with the columns where the height shrinks by more than twice as many pixels as the width:
# found by trying 400 sizes, tests/encoding compares. Before, it begins with the rows always.
_VERTICAL_FIRST = Version(PIL.__version__) >= Version("13")

_CACHE_BYTES = 256 * 2**20  # of weights: 350 sizes of around 800 pixels at a side of 224
_CHUNK_VALUES = 2**25  # of pictures that are resized together: 128 MiB as fp32, 23 pictures of 800 x 600


def _bilinear(x: Tensor) -> Tensor:
    return (1 - x).clamp(min=0)


def _bicubic(x: Tensor) -> Tensor:
    a = -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


_FILTERS: dict[str, tuple[float, Callable[[Tensor], Tensor]]] = {
    "bilinear": (1.0, _bilinear),
    "bicubic": (2.0, _bicubic),
    "lanczos": (3.0, _lanczos),
}


def filter_weights(size: int, resized: int, resampling: str, device: torch.device) -> Tensor:
    """Return ``(size, resized)`` fp32: column j holds what each of `size` pixels adds to pixel j.

    ``precompute_coeffs`` and ``normalize_coeffs_8bpc`` of Pillow's ``Resample.c``, as one dense matrix.
    """
    reach, kernel = _FILTERS[resampling]
    scale = size / resized
    stretch = max(scale, 1.0)
    centres = (torch.arange(resized, dtype=torch.float64, device=device) + 0.5) * scale
    pixels = torch.arange(size, dtype=torch.float64, device=device)[:, None]
    first = (centres - reach * stretch + 0.5).floor()
    stop = (centres + reach * stretch + 0.5).floor()
    values = kernel(((pixels - centres + 0.5) / stretch).abs())
    values = torch.where((pixels >= first) & (pixels < stop), values, 0.0)
    # Pillow's weights have 22 binary places.
    return ((values / values.sum(0)) * 2**22).round().div(2**22).float()


class Resampler:
    """Prepares decoded pictures by an encoder's recipe.

    Args:
        recipe: the encoder's.
        device: of the pictures that it is given, and of what it returns.

    Raises:
        ValueError: the recipe cuts out a larger square than it resizes to.
    """

    def __init__(self, recipe: PixelRecipe, device: torch.device) -> None:
        if recipe.shortest is not None and recipe.shortest < recipe.side:
            raise ValueError(f"recipe: cuts {recipe.side} pixels out of a shorter side of {recipe.shortest}")
        self._recipe, self._device = recipe, device
        self._mean = torch.tensor(recipe.mean, device=device)[:, None, None]
        self._std = torch.tensor(recipe.std, device=device)[:, None, None]
        self._weights: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
        self._bytes = 0

    def __call__(self, pictures: Iterable[Tensor]) -> Tensor:
        """Resize and normalise pictures.

        Args:
            pictures: ``(height, width, 3)`` uint8; neighbours of equal size are resized together.

        Returns:
            ``(n, 3, side, side)`` fp32, n at least one.
        """
        levels = _rounded(torch.cat([self._resized(run) for run in _runs(pictures)]))
        return levels.div_(255).sub_(self._mean).div_(self._std)

    def _resized(self, pixels: Tensor) -> Tensor:
        """Resize ``(n, height, width, 3)`` uint8 to ``(n, 3, side, side)`` fp32, not rounded after the last pass."""
        height, width = pixels.shape[1:3]
        values = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        rows, columns = self._scaled(height, width)
        across, down = self._matrix(width, columns), self._matrix(height, rows)
        if _VERTICAL_FIRST and height > rows and height - rows > 2 * (width - columns):
            return _rounded(down.T @ values) @ across
        return down.T @ _rounded(values @ across)

    def _scaled(self, height: int, width: int) -> tuple[int, int]:
        """Return the size that a picture is resized to, before the square is cut out of it."""
        shortest = self._recipe.shortest
        if shortest is None:
            return self._recipe.side, self._recipe.side
        if height <= width:
            return shortest, int(shortest * width / height)
        return int(shortest * height / width), shortest

    def _matrix(self, size: int, resized: int) -> Tensor:
        """Return the weights of the pixels that lie in the square ``(size, side)``."""
        key = size, resized
        found = self._weights.pop(key, None)
        if found is None:
            start = (resized - self._recipe.side) // 2
            weights = filter_weights(size, resized, self._recipe.resampling, self._device)
            found = weights[:, start : start + self._recipe.side].contiguous()
            self._bytes += found.nbytes
        self._weights[key] = found
        while self._bytes > _CACHE_BYTES and len(self._weights) > 1:
            self._bytes -= self._weights.popitem(last=False)[1].nbytes
        return found


def _rounded(values: Tensor) -> Tensor:
    """Round to whole levels as Pillow does, halves up; in place."""
    return values.add_(0.5).floor_().clamp_(0, 255)


def _runs(pictures: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield neighbours of equal shape as one tensor, as many as may be resized together."""
    for shape, equal in groupby(pictures, key=lambda picture: picture.shape):
        while run := list(islice(equal, max(1, _CHUNK_VALUES // shape.numel()))):
            yield torch.stack(run) if len(run) > 1 else run[0][None]

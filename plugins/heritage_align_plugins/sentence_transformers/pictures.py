"""Pictures on their way to a processor that wants them as they are: as tensors of one shape, whatever their size.

A packed picture is ``(3, 1, count)`` uint8, whose bytes in a row are the picture's pixels, zeros, and its width and
height in the last six.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from heritage_align_plugins.transformers.strips import no_strip

_HEADER = 6  # bytes: three of each side, sides up to 16 million


def packed_shape(max_pixels: int) -> tuple[int, int, int]:
    """Return the shape of a packed picture."""
    return 3, 1, max_pixels + _HEADER // 3


def pack(image: Image.Image, max_pixels: int) -> Tensor:
    """Pack a picture, made smaller first if it has more pixels; `packed_shape` uint8."""
    image = fitted(image, max_pixels)
    # By numpy: memory that is asked for as zeros costs nothing where it is not touched.
    packed = np.zeros(packed_shape(max_pixels), dtype=np.uint8)
    row = packed.reshape(-1)
    row[: 3 * image.width * image.height] = np.asarray(image).reshape(-1)
    row[-_HEADER:] = np.frombuffer(b"".join(side.to_bytes(_HEADER // 2, "big") for side in image.size), np.uint8)
    return torch.from_numpy(packed)


def unpack(packed: Tensor) -> list[Image.Image]:
    """Return the pictures of a batch ``(n, 3, 1, count)``."""
    images = []
    for row in packed.cpu().flatten(1).numpy():
        sides = row[-_HEADER:].tobytes()
        width, height = (int.from_bytes(sides[i : i + _HEADER // 2], "big") for i in (0, _HEADER // 2))
        images.append(Image.fromarray(row[: 3 * width * height].reshape(height, width, 3)))
    return images


def fitted(image: Image.Image, max_pixels: int) -> Image.Image:
    """Return an RGB picture of at most so many pixels, in proportion, each side at least one, and no strip."""
    image = no_strip(image)
    if image.width * image.height <= max_pixels:
        return image
    factor = (max_pixels / (image.width * image.height)) ** 0.5
    width, height = max(1, int(image.width * factor)), max(1, int(image.height * factor))
    # Of a strip, one side is 1 whatever the factor, and the other may be too long for it.
    width = min(width, max_pixels)
    height = min(height, max_pixels // width)
    return image.resize((width, height), Image.Resampling.LANCZOS)

"""Pictures inside the page: each encoded once, and all of them together within a budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

from PIL.Image import Image, Resampling

THUMBNAIL = 160
"""Longer side in pixels: 80 on the page, drawn sharply on screens with two pixels to one."""

_STEPS = ((82, 1.0), (70, 1.0), (60, 0.8), (45, 0.65))
"""WebP quality and scale, from what looks good to what is still recognised."""


@dataclass(frozen=True)
class Embedded:
    """A picture as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Album:
    """Pictures that fit the budget.

    Attributes:
        pictures: key -> picture.
        left_out: keys of pictures that did not fit, in their order.
    """

    pictures: Mapping[str, Embedded]
    left_out: tuple[str, ...] = ()


def thumbnail(image: Image) -> Image:
    """Return a copy of at most `THUMBNAIL` pixels on its longer side."""
    scale = min(1.0, THUMBNAIL / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Resampling.LANCZOS)


def embed(images: Mapping[str, Image], budget: int) -> Album:
    """Encode pictures as WebP data URIs of at most `budget` bytes in all.

    Quality and then size are lowered for all alike; where the last step is still too large, pictures are left
    out from the end.
    """
    encoded: dict[str, Embedded] = {}
    for quality, scale in _STEPS:
        encoded = {key: _encode(image, quality, scale) for key, image in images.items()}
        if sum(len(picture.uri) for picture in encoded.values()) <= budget:
            return Album(encoded)
    fitting: dict[str, Embedded] = {}
    for key, picture in encoded.items():
        if sum(len(p.uri) for p in fitting.values()) + len(picture.uri) > budget:
            break
        fitting[key] = picture
    return Album(fitting, tuple(key for key in encoded if key not in fitting))


def _encode(image: Image, quality: int, scale: float) -> Embedded:
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    smaller = image.convert("RGB") if scale == 1.0 else image.convert("RGB").resize(size, Resampling.LANCZOS)
    buffer = io.BytesIO()
    smaller.save(buffer, "WEBP", quality=quality, method=4)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Embedded(f"data:image/webp;base64,{text}", *smaller.size)

"""Colour profiles: pixels of any ICC profile as those of sRGB, which is what encoders were trained on."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}
_LATTICE = np.stack(np.meshgrid(*[np.arange(0, 256, 32, dtype=np.uint8)] * 3), -1).reshape(8, 64, 3)
# Rounding on the way to the profile's space and back; another sRGB that somebody measured is no other colour.
_SAME = 2


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return a picture in the colours that its profile means, as sRGB.

    Args:
        image: of mode RGB, L, CMYK or LAB.
        profile: ICC profile. One that is broken, of another kind of colours than the picture's, or that is sRGB, is
            ignored: it says nothing against the pixels. Without one LAB is CIE's.

    Returns:
        Mode RGB where the profile was applied, else the picture itself.
    """
    if image.mode not in _SPACES:
        return image
    transform = _transform(profile or b"", image.mode)
    if transform is None:
        return image
    converted: Image.Image | None = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it is None where a picture is changed in place
    return converted


def changes_colours(profile: bytes | None, mode: str) -> bool:
    """Say whether `to_srgb` would change pixels of a mode."""
    return mode in _SPACES and _transform(profile or b"", mode) is not None


@lru_cache(maxsize=32)  # a collection has few profiles; building a transform takes milliseconds
def _transform(profile: bytes, mode: str) -> Any:
    target = ImageCms.createProfile("sRGB")
    if not profile:
        return ImageCms.buildTransform(ImageCms.createProfile("LAB"), target, "LAB", "RGB") if mode == "LAB" else None
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if source.profile.xcolor_space != _SPACES[mode]:
            return None
        intent = ImageCms.Intent(source.profile.rendering_intent)
        transform = ImageCms.buildTransform(source, target, mode, "RGB", renderingIntent=intent)
        if mode == "RGB":
            shown = np.asarray(ImageCms.applyTransform(Image.fromarray(_LATTICE), transform), dtype=np.int16)
            if np.abs(shown - _LATTICE).max() <= _SAME:
                return None
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):  # what littlecms and Pillow make of broken bytes
        return None
    return transform

"""Pictures much longer than wide: scrolls, borders, crops of a pixel."""

from __future__ import annotations

from PIL import Image

LONGEST = 180
"""Ratio of the sides: Qwen's processors refuse 200 and more, with a traceback of their own."""


def no_strip(image: Image.Image) -> Image.Image:
    """Return a picture as RGB, squeezed where its longer side is more than `LONGEST` times the shorter."""
    # Not `convert` alone, which copies a picture that is RGB already.
    image = image if image.mode == "RGB" else image.convert("RGB")
    width, height = image.size
    size = min(width, LONGEST * height), min(height, LONGEST * width)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)

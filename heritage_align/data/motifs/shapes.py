"""The motif alphabet: name -> drawing function, and the stamps that they give."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from PIL import Image

from heritage_align.data.motifs import shapes_animals, shapes_plants, shapes_symbols
from heritage_align.data.motifs.pen import Pen, Rgb
from heritage_align.data.motifs.vocabulary import MOTIFS

_MODULES = (shapes_plants, shapes_animals, shapes_symbols)

DRAWINGS: dict[str, Callable[[Pen, float], None]] = {
    name: next(getattr(module, name) for module in _MODULES if hasattr(module, name)) for name in MOTIFS
}


@lru_cache(maxsize=4096)
def stamp(
    motif: str,
    size: int,
    colour: Rgb,
    edge: Rgb,
    angle: float = 0.0,
    mirror: bool = False,
    wobble: float = 0.0,
) -> Image.Image:
    """Draw one motif on a transparent ``size x size`` RGBA stamp; stamps are cached, do not change them.

    Args:
        motif: a key of `vocabulary.MOTIFS`.
        size: side in pixels.
        colour: main colour.
        edge: outline colour.
        angle: rotation in radians.
        mirror: flip left and right.
        wobble: 0..1, the variant of the drawing.
    """
    pen = Pen(size, colour, edge, angle, mirror)
    DRAWINGS[motif](pen, wobble)
    return pen.stamp()

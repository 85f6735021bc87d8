"""The cloth under the motifs: ground colour, woven pattern, ornaments of the layout, threads and wear."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from heritage_align.data.motifs.design import Design
from heritage_align.data.motifs.pen import Rgb, arc, mix
from heritage_align.data.motifs.vocabulary import GROUND_RGB

DRAW_SCALE = 2  # lines of the ground are drawn at twice the size and averaged


def tones(ground: str) -> tuple[Rgb, Rgb, Rgb]:
    """Return ``(ground, tone, line)``: the cloth, a tone-in-tone pattern, and the colour of ornaments and outlines."""
    base = GROUND_RGB[ground]
    dark = sum(base) < 330
    tone = mix(base, (255, 240, 215) if dark else (70, 40, 30), 0.13)
    line = (232, 206, 140) if dark else (62, 36, 34)
    return base, tone, line


def paint(design: Design, size: int) -> Image.Image:
    """Paint the ground of a design, RGB ``size x size``, without motifs."""
    base, tone, line = tones(design.ground)
    side = size * DRAW_SCALE
    image = Image.new("RGB", (side, side), base)
    draw = ImageDraw.Draw(image)
    width = max(1, round(side * 0.006))
    _ORNAMENTS[design.layout](draw, side, width, tone, line, design)
    return image.reduce(DRAW_SCALE)


def _diaper(draw: ImageDraw.ImageDraw, side: int, width: int, tone: Rgb, cells: int) -> None:
    step = side / cells
    for k in range(-cells, 2 * cells):
        draw.line([(k * step, 0), (k * step + side, side)], fill=tone, width=width)
        draw.line([(k * step, side), (k * step + side, 0)], fill=tone, width=width)


def _scales(draw: ImageDraw.ImageDraw, side: int, top: float, radius: float, width: int, fill: Rgb, line: Rgb) -> None:
    """Overlapping arcs, the fish-scale wave of robes, from `top` (fraction) down to the border."""
    r = side * radius
    rows = math.ceil((1 - top) * side / (r / 2)) + 1
    for row in range(rows):
        y = side * top + r + row * r / 2
        for k in range(-1, math.ceil(side / (2 * r)) + 1):
            x = 2 * r * k + (r if row % 2 else 0)
            for share, ink in ((1.0, fill), (0.62, fill), (0.28, fill)):
                s = r * share
                draw.ellipse((x - s, y - s, x + s, y + s), fill=ink, outline=line, width=width)


def _roundel(draw: ImageDraw.ImageDraw, side: int, width: int, tone: Rgb, line: Rgb, design: Design) -> None:
    _diaper(draw, side, width, tone, 12)
    for radius, fill in ((0.4, tone), (0.275, GROUND_RGB[design.ground])):
        box = [side * (0.5 - radius), side * (0.5 - radius), side * (0.5 + radius), side * (0.5 + radius)]
        draw.ellipse(box, fill=fill, outline=line, width=width * 2)


def _lattice(draw: ImageDraw.ImageDraw, side: int, width: int, tone: Rgb, line: Rgb, design: Design) -> None:
    _diaper(draw, side, width, tone, 18)
    for k in (1, 2):
        at = side * k / 3
        for ink, w in ((line, width * 4), (tone, width * 2)):
            draw.line([(0, at), (side, at)], fill=ink, width=w)
            draw.line([(at, 0), (at, side)], fill=ink, width=w)
    for x in (1, 2):
        for y in (1, 2):
            cx, cy, r = side * x / 3, side * y / 3, side * 0.078
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=GROUND_RGB[design.ground], outline=line, width=width)


def _sprays(draw: ImageDraw.ImageDraw, side: int, width: int, tone: Rgb, line: Rgb, design: Design) -> None:
    step = side / 9
    for row in range(10):
        for column in range(10):
            x, y = (column + (row % 2) / 2) * step, row * step
            draw.line(arc_points(x, y, step * 0.32, row + column), fill=tone, width=width * 2, joint="curve")


def arc_points(x: float, y: float, radius: float, phase: int) -> list[tuple[float, float]]:
    """Return a small scroll around ``(x, y)``; `phase` turns it."""
    return arc(x, y, radius, radius * 0.8, 0.0, 4.2, turn=phase * 0.9, steps=8)


def _waves(draw: ImageDraw.ImageDraw, side: int, width: int, tone: Rgb, line: Rgb, design: Design) -> None:
    _sprays(draw, side, width, tone, line, design)
    _scales(draw, side, 0.76, 0.085, width, tone, line)


def _bands(draw: ImageDraw.ImageDraw, side: int, width: int, tone: Rgb, line: Rgb, design: Design) -> None:
    rows = sorted(design.elements, key=lambda e: e.instances[0].y)
    centres = [e.instances[0].y for e in rows]
    top = 0.0
    for k, centre in enumerate(centres):
        bottom = top + 2 * (centre - top)
        if k % 2:
            draw.rectangle((0, top * side, side, bottom * side), fill=tone)
        if k:
            draw.rectangle((0, top * side - width * 2, side, top * side + width * 2), fill=line)
            draw.rectangle((0, top * side - width * 0.5, side, top * side + width * 0.5), fill=tone)
        top = bottom


def _medallion(draw: ImageDraw.ImageDraw, side: int, width: int, tone: Rgb, line: Rgb, design: Design) -> None:
    draw.rectangle((0, 0, side, side), fill=tone)
    draw.rectangle((side * 0.14, side * 0.14, side * 0.86, side * 0.86), fill=line)
    inset = side * 0.14 + width * 2
    draw.rectangle((inset, inset, side - inset, side - inset), fill=GROUND_RGB[design.ground])
    box = (side * 0.3, side * 0.3, side * 0.7, side * 0.7)
    draw.ellipse(box, outline=tone, width=width * 3)


_ORNAMENTS = {
    "roundel": _roundel,
    "lattice": _lattice,
    "sprays": _sprays,
    "waves": _waves,
    "bands": _bands,
    "medallion": _medallion,
}


@lru_cache(maxsize=4)
def _threads(size: int) -> np.ndarray:
    """Return the weave, ``(size, size, 1)``: every other row darker, a twill of diagonals over it."""
    rows, columns = np.mgrid[0:size, 0:size]
    weave = 1.0 - 0.035 * (rows % 2) - 0.03 * ((rows + columns) % 4 == 0)
    return weave[..., None].astype(np.float32)


def weave(image: Image.Image, texture: int) -> Image.Image:
    """Put threads, uneven dye and wear over a picture; `texture` seeds them."""
    rng = np.random.default_rng(texture)
    size = image.width
    stains = rng.uniform(-1.0, 1.0, (6, 6)).astype(np.float32)
    dye = np.asarray(Image.fromarray(stains).resize((size, size), Image.Resampling.BICUBIC))
    gain = _threads(size) * (1.0 + 0.07 * dye[..., None]) * rng.uniform(0.95, 1.04, 3).astype(np.float32)
    pixels = np.asarray(image, dtype=np.float32) * gain
    pixels += rng.standard_normal((size, size, 1), dtype=np.float32) * 5.0
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

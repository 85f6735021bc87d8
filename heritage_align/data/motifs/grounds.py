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
    """Return ``(ground, tone, line)``: the cloth, a pattern tone in tone, the colour of all outlines."""
    base = GROUND_RGB[ground]
    dark = sum(base) < 330
    tone = mix(base, (255, 240, 215) if dark else (70, 40, 30), 0.13)
    line = (232, 206, 140) if dark else (62, 36, 34)
    return base, tone, line


class Cloth:
    """A ground on which the ornaments of a layout are drawn; places and radii are fractions of the side.

    Args:
        design: what to draw the ground of.
        size: side of the finished picture in pixels.
    """

    def __init__(self, design: Design, size: int) -> None:
        self._design = design
        self._base, self._tone, self._line = tones(design.ground)
        self._side = size * DRAW_SCALE
        self._width = max(1, round(self._side * 0.006))
        self.image = Image.new("RGB", (self._side, self._side), self._base)
        self._draw = ImageDraw.Draw(self.image)

    def _circle(self, x: float, y: float, radius: float, fill: Rgb, line: Rgb, width: int = 1) -> None:
        x, y, r = x * self._side, y * self._side, radius * self._side
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=line, width=self._width * width)

    def _diaper(self, cells: int) -> None:
        """Two families of diagonals."""
        side, step = self._side, self._side / cells
        for k in range(-cells, 2 * cells):
            self._draw.line([(k * step, 0), (k * step + side, side)], fill=self._tone, width=self._width)
            self._draw.line([(k * step, side), (k * step + side, 0)], fill=self._tone, width=self._width)

    def roundel(self) -> None:
        """A broad ring around the centre."""
        self._diaper(12)
        self._circle(0.5, 0.5, 0.4, self._tone, self._line, 2)
        self._circle(0.5, 0.5, 0.275, self._base, self._line, 2)

    def lattice(self) -> None:
        """Double lines at the thirds, discs where they cross."""
        side, draw = self._side, self._draw
        self._diaper(18)
        for at in (side / 3, side * 2 / 3):
            for ink, width in ((self._line, self._width * 4), (self._tone, self._width * 2)):
                draw.line([(0, at), (side, at)], fill=ink, width=width)
                draw.line([(at, 0), (at, side)], fill=ink, width=width)
        for x in (1 / 3, 2 / 3):
            for y in (1 / 3, 2 / 3):
                self._circle(x, y, 0.078, self._base, self._line)

    def sprays(self) -> None:
        """Small scrolls in rows."""
        step = self._side / 9
        for row in range(10):
            for column in range(10):
                x, y = (column + (row % 2) / 2) * step, row * step
                scroll = arc(x, y, step * 0.32, step * 0.26, 0.0, 4.2, turn=(row + column) * 0.9, steps=8)
                self._draw.line(scroll, fill=self._tone, width=self._width * 2, joint="curve")

    def waves(self) -> None:
        """Scrolls above, and below them the overlapping arcs of the water at the hem of a robe."""
        self.sprays()
        radius = 0.085
        for row in range(math.ceil(0.24 / (radius / 2)) + 1):
            y = 0.76 + radius + row * radius / 2
            for k in range(-1, math.ceil(1 / (2 * radius)) + 1):
                for share in (1.0, 0.62, 0.28):
                    self._circle(2 * radius * k + radius * (row % 2), y, radius * share, self._tone, self._line)

    def bands(self) -> None:
        """Stripes in two tones with double lines between them; each row of motifs is the middle of one."""
        side, width, draw = self._side, self._width, self._draw
        top = 0.0
        for k, centre in enumerate(sorted(element.instances[0].y for element in self._design.elements)):
            bottom = top + 2 * (centre - top)
            if k % 2:
                draw.rectangle((0, top * side, side, bottom * side), fill=self._tone)
            if k:
                draw.rectangle((0, top * side - width * 2, side, top * side + width * 2), fill=self._line)
                draw.rectangle((0, top * side - width * 0.5, side, top * side + width * 0.5), fill=self._tone)
            top = bottom

    def medallion(self) -> None:
        """A border, a framed panel, a faint ring in its middle."""
        side, width, draw = self._side, self._width, self._draw
        draw.rectangle((0, 0, side, side), fill=self._tone)
        draw.rectangle((side * 0.14, side * 0.14, side * 0.86, side * 0.86), fill=self._line)
        inset = side * 0.14 + width * 2
        draw.rectangle((inset, inset, side - inset, side - inset), fill=self._base)
        draw.ellipse((side * 0.3, side * 0.3, side * 0.7, side * 0.7), outline=self._tone, width=width * 3)


_ORNAMENTS = {
    "roundel": Cloth.roundel,
    "lattice": Cloth.lattice,
    "sprays": Cloth.sprays,
    "waves": Cloth.waves,
    "bands": Cloth.bands,
    "medallion": Cloth.medallion,
}


def paint(design: Design, size: int) -> Image.Image:
    """Paint the ground of a design, RGB ``size x size``, without motifs."""
    cloth = Cloth(design, size)
    _ORNAMENTS[design.layout](cloth)
    return cloth.image.reduce(DRAW_SCALE)


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

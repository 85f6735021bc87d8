"""A pen that draws one motif in unit coordinates: filled shapes with a thin outline, supersampled."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLE = 3  # 4 looks the same at the sizes in use and costs 1.7x the time

Point = tuple[float, float]
Rgb = tuple[int, int, int]


def mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    """Blend two colours; `share` is that of `b`."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b))  # type: ignore[return-value]


class Pen:
    """Draws shapes given in a square of side 2 around the origin (y downwards) on a transparent stamp.

    Args:
        size: side of the finished stamp in pixels.
        colour: the motif's main colour; a light and a dark shade are derived from it.
        edge: colour of the outline.
        angle: rotation in radians, clockwise on the picture.
        mirror: flip left and right before rotating.
    """

    def __init__(self, size: int, colour: Rgb, edge: Rgb, angle: float = 0.0, mirror: bool = False) -> None:
        self.size = size
        self.main = colour
        self.light = mix(colour, (255, 250, 235), 0.45)
        self.dark = mix(colour, (20, 12, 16), 0.4) if sum(colour) > 150 else mix(colour, (255, 250, 240), 0.35)
        self.edge = edge
        side = size * SUPERSAMPLE
        self._image = Image.new("RGBA", (side, side), (*edge, 0))
        self._draw = ImageDraw.Draw(self._image)
        self._half = side / 2
        self._scale = side / 2 * 0.94  # the outline must not be cut off at the stamp's border
        self._line = max(1.0, side * 0.022)
        cos, sin, flip = math.cos(angle), math.sin(angle), -1.0 if mirror else 1.0
        self._matrix = np.array([[cos * flip, -sin], [sin * flip, cos]])

    def _place(self, points: Sequence[Point]) -> list[Point]:
        placed = np.asarray(points, dtype=np.float64) @ self._matrix.T * self._scale + self._half
        return [(float(x), float(y)) for x, y in placed]

    def polygon(self, points: Sequence[Point], fill: Rgb | None = None, outline: bool = True) -> None:
        """Fill a polygon (main colour unless told) and draw its outline."""
        placed = self._place(points)
        self._draw.polygon(placed, fill=(*(fill or self.main), 255))
        if outline:
            self._draw.line([*placed, placed[0]], fill=(*self.edge, 255), width=round(self._line), joint="curve")

    def ellipse(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        turn: float = 0.0,
        fill: Rgb | None = None,
        outline: bool = True,
    ) -> None:
        """Fill an ellipse around ``(x, y)`` with radii `rx`, `ry`, turned by `turn` radians."""
        self.polygon(arc(x, y, rx, ry, 0.0, math.tau, turn=turn, steps=20), fill, outline)

    def stroke(self, points: Sequence[Point], width: float, colour: Rgb | None = None) -> None:
        """Draw a line of `width` (unit coordinates) with round ends."""
        placed = self._place(points)
        pixels = max(1, round(width * self._scale))
        ink = (*(colour or self.main), 255)
        self._draw.line(placed, fill=ink, width=pixels, joint="curve")
        for x, y in (placed[0], placed[-1]):
            r = pixels / 2
            self._draw.ellipse((x - r, y - r, x + r, y + r), fill=ink)

    def outlined_stroke(self, points: Sequence[Point], width: float, colour: Rgb | None = None) -> None:
        """Draw a line with the outline's colour around it."""
        self.stroke(points, width + 2 * self._line / self._scale, self.edge)
        self.stroke(points, width, colour)

    def stamp(self) -> Image.Image:
        """Return the finished RGBA stamp, ``size x size``."""
        return self._image.resize((self.size, self.size), Image.Resampling.BOX)


def arc(
    x: float,
    y: float,
    rx: float,
    ry: float,
    start: float,
    stop: float,
    turn: float = 0.0,
    steps: int = 12,
) -> list[Point]:
    """Return points of an elliptic arc from `start` to `stop` radians, turned by `turn` around its centre."""
    angles = np.linspace(start, stop, steps, endpoint=stop - start < math.tau - 1e-9)
    u, v = rx * np.cos(angles), ry * np.sin(angles)
    cos, sin = math.cos(turn), math.sin(turn)
    return list(zip((x + u * cos - v * sin).tolist(), (y + u * sin + v * cos).tolist()))


def petal(angle: float, near: float, far: float, width: float) -> list[Point]:
    """Return a leaf shape that points away from the origin at `angle`, from radius `near` to `far`."""
    shape = [
        (0.0, 0.0),
        (0.3, 0.8),
        (0.6, 1.0),
        (0.88, 0.6),
        (1.0, 0.0),
        (0.88, -0.6),
        (0.6, -1.0),
        (0.3, -0.8),
    ]
    cos, sin = math.cos(angle), math.sin(angle)
    points = [(near + t * (far - near), s * width / 2) for t, s in shape]
    return [(u * cos - v * sin, u * sin + v * cos) for u, v in points]


def shift(points: Sequence[Point], x: float, y: float) -> list[Point]:
    """Return `points` moved by ``(x, y)``."""
    return [(px + x, py + y) for px, py in points]

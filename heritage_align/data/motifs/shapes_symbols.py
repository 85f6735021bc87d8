"""Drawings of emblems and treasures. `wobble` in 0..1 varies a drawing without changing what it shows."""

from __future__ import annotations

import math

from heritage_align.data.motifs.pen import Pen, arc


def cloud(pen: Pen, wobble: float) -> None:
    """Draw a cloud head of curls with a trailing tail."""
    pen.polygon([(-0.98, 0.62), (-0.3, 0.28), (0.5, 0.3), (0.3, 0.52), (-0.3, 0.6)], pen.light)
    for x, y, r in (
        (-0.5, 0.1, 0.36),
        (0.55, 0.12, 0.36),
        (0.0, -0.32 - 0.1 * wobble, 0.48),
        (0.05, 0.2, 0.34),
    ):
        pen.ellipse(x, y, r, r * 0.9)
    for x, y, r in ((-0.5, 0.1, 0.18), (0.55, 0.12, 0.18), (0.0, -0.34, 0.24)):
        pen.stroke(arc(x, y, r, r, -2.4, 2.2, steps=9), 0.08, pen.light)


def ruyi(pen: Pen, wobble: float) -> None:
    """Draw a sceptre's head: a three-lobed heart above a short curved handle."""
    pen.outlined_stroke([(0.0, 0.2), (0.1, 0.55), (-0.06 - 0.1 * wobble, 0.9)], 0.18, pen.dark)
    for sign in (-1, 1):
        pen.ellipse(sign * 0.52, 0.02, 0.42, 0.36)
    pen.polygon([(0.0, -0.95), (0.42, -0.62), (0.5, -0.2), (0.2, 0.3), (-0.2, 0.3), (-0.5, -0.2), (-0.42, -0.62)])
    for sign in (-1, 1):
        pen.stroke(arc(sign * 0.5, 0.02, 0.2, 0.18, 0.0, 4.8, steps=9), 0.07, pen.light)
    pen.polygon([(0.0, -0.6), (0.2, -0.28), (0.0, 0.05), (-0.2, -0.28)], pen.light)


def wan(pen: Pen, wobble: float) -> None:
    """Draw the fret of four hooked arms (卍)."""
    half = 0.74 + 0.08 * wobble
    for k in range(4):
        c, s = math.cos(k * math.pi / 2), math.sin(k * math.pi / 2)
        arm = [(0.0, 0.0), (0.0, -half), (-half, -half)]
        pen.outlined_stroke([(x * c - y * s, x * s + y * c) for x, y in arm], 0.24)
    pen.stroke([(0, -0.5), (0, 0.5)], 0.24)
    pen.stroke([(-0.5, 0), (0.5, 0)], 0.24)


def coin(pen: Pen, wobble: float) -> None:
    """Draw a round coin with a square hole and four strokes."""
    pen.ellipse(0, 0, 0.94, 0.94)
    pen.ellipse(0, 0, 0.74, 0.74, fill=pen.light)
    for k in range(4):
        a = k * math.pi / 2 + 0.1 * (wobble - 0.5)
        pen.stroke(
            [(0.44 * math.cos(a), 0.44 * math.sin(a)), (0.62 * math.cos(a), 0.62 * math.sin(a))],
            0.12,
            pen.dark,
        )
    pen.polygon([(-0.3, -0.3), (0.3, -0.3), (0.3, 0.3), (-0.3, 0.3)], pen.dark)


def lozenge(pen: Pen, wobble: float) -> None:
    """Draw two interlocked open lozenges."""
    r = 0.6 + 0.04 * wobble
    for x in (-0.34, 0.34):
        pen.outlined_stroke([(x, -r), (x + r, 0), (x, r), (x - r, 0), (x, -r)], 0.17, pen.main if x < 0 else pen.light)
    pen.outlined_stroke([(-0.34, r), (-0.34 + r, 0)], 0.17)


def knot(pen: Pen, wobble: float) -> None:
    """Draw the endless knot: a turned weave of three by three with looped corners."""
    half = 0.62 + 0.05 * wobble
    c = math.sqrt(0.5)
    for x, y in ((0, -0.9), (0, 0.9), (-0.9, 0), (0.9, 0)):
        pen.ellipse(x * 0.86, y * 0.86, 0.18, 0.18)
    for offset in (-0.42, 0.0, 0.42):
        for sign in (-1, 1):
            line = [(-half, offset), (half, offset)] if sign < 0 else [(offset, -half), (offset, half)]
            ink = pen.main if sign < 0 else pen.light
            pen.outlined_stroke([((x - y) * c, (x + y) * c) for x, y in line], 0.14, ink)


def fan(pen: Pen, wobble: float) -> None:
    """Draw an open folding fan: ribs, a leaf in two tones, a pivot."""
    low, high = math.pi * 1.12 - 0.1 * wobble, math.pi * 1.88 + 0.1 * wobble
    outer, inner = arc(0, 0.75, 1.08, 1.55, low, high), arc(0, 0.75, 0.55, 0.75, low, high)
    pen.polygon(outer + inner[::-1])
    middle = arc(0, 0.75, 0.86, 1.2, low, high)
    pen.polygon(middle + inner[::-1], pen.light)
    for x, y in outer[::2]:
        pen.stroke([(0, 0.75), (x, y)], 0.045, pen.edge)
    pen.polygon([(0, 0.9), *inner], pen.dark)


def pearl(pen: Pen, wobble: float) -> None:
    """Draw a flaming pearl: three tongues of fire over a round jewel."""
    tongues = [
        (-0.72, 0.5),
        (-0.8, -0.2),
        (-0.5, -0.62),
        (-0.38, -0.22),
        (0.05 - 0.2 * wobble, -0.98),
        (0.28, -0.3),
    ]
    pen.polygon([*tongues, (0.56, -0.6), (0.78, -0.1), (0.7, 0.5), (0.3, 0.92), (-0.3, 0.92)])
    pen.ellipse(0, 0.36, 0.42, 0.42, fill=pen.light)
    pen.ellipse(0, 0.36, 0.2, 0.2, fill=pen.dark)


def moon(pen: Pen, wobble: float) -> None:
    """Draw a crescent with a star in its arms."""
    outer = arc(0, 0, 0.92, 0.92, 0.75, math.tau - 0.75, steps=20)
    inner = arc(0.36, 0, 0.62, 0.7, 1.15, math.tau - 1.15, steps=16)
    pen.polygon(outer + inner[::-1])
    star = [
        (r * math.cos(a) + 0.42, r * math.sin(a))
        for k in range(8)
        for r, a in (((0.36 if k % 2 else 0.14), k * math.pi / 4 + 0.3 * wobble),)
    ]
    pen.polygon(star, pen.light)


def mountain(pen: Pen, wobble: float) -> None:
    """Draw three peaks with terraces."""
    for x, top, half in ((-0.5, -0.3, 0.46), (0.52, -0.15, 0.44), (0.0, -0.9 + 0.15 * wobble, 0.55)):
        pen.polygon(
            [
                (x - half, 0.8),
                (x - half * 0.3, top + 0.2),
                (x, top),
                (x + half * 0.3, top + 0.2),
                (x + half, 0.8),
            ]
        )
        for step in (0.35, 0.6):
            y = top + (0.8 - top) * step
            pen.stroke([(x - half * step * 0.7, y), (x, y - 0.14), (x + half * step * 0.7, y)], 0.07, pen.light)
    pen.polygon([(-0.96, 0.95), (-0.96, 0.72), (0.96, 0.72), (0.96, 0.95)], pen.dark)

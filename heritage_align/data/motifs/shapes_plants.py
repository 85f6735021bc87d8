"""Drawings of flowers, trees and fruit. `wobble` in 0..1 varies a drawing without changing what it shows."""

from __future__ import annotations

import math
from itertools import pairwise

from heritage_align.data.motifs.pen import Pen, arc, petal, shift


def peony(pen: Pen, wobble: float) -> None:
    """Draw three whorls of broad, overlapping petals."""
    for count, far, width, tone in (
        (9, 1.0, 0.72, pen.main),
        (7, 0.7, 0.56, pen.light),
        (5, 0.42, 0.4, pen.main),
    ):
        for k in range(count):
            pen.polygon(petal(math.tau * (k + wobble * 0.5) / count, 0.05, far, width), tone)
    pen.ellipse(0, 0, 0.14, 0.14, fill=pen.dark)


def lotus(pen: Pen, wobble: float) -> None:
    """Draw a side view: pointed petals that rise from one foot, over a leaf."""
    pen.ellipse(0, 0.68, 0.92, 0.24, fill=pen.dark)
    for angle in (-1.15, 1.15, -0.75, 0.75, -0.36, 0.36, 0.0):
        length = 1.45 - 0.32 * abs(angle) + 0.1 * wobble
        leaf = petal(angle - math.pi / 2, 0.0, length, 0.46)
        pen.polygon(shift(leaf, 0, 0.62), pen.light if abs(angle) in (0.36, 1.15) else pen.main)


def plum(pen: Pen, wobble: float) -> None:
    """Draw five separate round petals around a heart with stamens."""
    for k in range(5):
        a = math.tau * k / 5 - math.pi / 2 + 0.2 * wobble
        pen.ellipse(0.56 * math.cos(a), 0.56 * math.sin(a), 0.4, 0.4)
    for k in range(5):
        a = math.tau * (k + 0.5) / 5 - math.pi / 2 + 0.2 * wobble
        pen.stroke([(0, 0), (0.42 * math.cos(a), 0.42 * math.sin(a))], 0.05, pen.edge)
    pen.ellipse(0, 0, 0.2, 0.2, fill=pen.light)


def chrysanthemum(pen: Pen, wobble: float) -> None:
    """Draw many thin rays around a large disc."""
    for k in range(16):
        pen.polygon(petal(math.tau * (k + wobble) / 16, 0.3, 1.0, 0.25), pen.main if k % 2 else pen.light)
    pen.ellipse(0, 0, 0.36, 0.36, fill=pen.dark)
    pen.ellipse(0, 0, 0.16, 0.16, fill=pen.light)


def bamboo(pen: Pen, wobble: float) -> None:
    """Draw two jointed canes with leaves."""
    for x, top in ((-0.28, -0.95 + 0.15 * wobble), (0.26, -0.7)):
        joints = [0.95, 0.45, -0.05, -0.5, top]
        for low, high in pairwise(joints):
            half = 0.11
            box = [(x - half, low), (x - half, high + 0.05), (x + half, high + 0.05), (x + half, low)]
            pen.polygon(box, pen.main)
    for x, y, a in (
        (-0.2, -0.5, -2.6),
        (-0.2, -0.05, 2.7),
        (0.34, -0.05, -0.5),
        (0.34, -0.5, 0.3),
        (0.3, 0.45, 0.1),
    ):
        pen.polygon(shift(petal(a, 0.0, 0.66, 0.26), x, y), pen.light)


def pine(pen: Pen, wobble: float) -> None:
    """Draw a crooked trunk that carries three flat clusters of needles."""
    pen.outlined_stroke([(0.1, 0.95), (-0.1, 0.5), (0.14, 0.05), (-0.02, -0.4)], 0.18, pen.dark)
    pen.outlined_stroke([(0.05, 0.3), (0.5, 0.1)], 0.1, pen.dark)
    for x, y, r in ((-0.45, 0.02, 0.45), (0.5, -0.02, 0.42), (0.0, -0.5 - 0.08 * wobble, 0.5)):
        fan = arc(x, y + 0.14, r, r * 0.85, math.pi, math.tau, steps=10)
        pen.polygon(fan)
        for px, py in fan[1:-1:2]:
            pen.stroke([(x, y + 0.12), (px, py)], 0.035, pen.edge)


def peach(pen: Pen, wobble: float) -> None:
    """Draw a fruit with a cleft and a tip, on two leaves."""
    for a in (0.5 + 0.2 * wobble, math.pi - 0.5):
        pen.polygon(shift(petal(a, 0.0, 0.95, 0.4), 0, 0.35), pen.dark)
    left = [(0.0, -0.95), (-0.3, -0.62), (-0.66, -0.3), (-0.78, 0.08), (-0.6, 0.44), (-0.25, 0.6), (0.0, 0.6)]
    pen.polygon(left + [(-x, y) for x, y in left[::-1]])
    pen.polygon([(0.0, -0.95), (0.24, -0.4), (0.28, 0.1), (0.1, 0.58), (0.12, 0.1), (0.1, -0.4)], pen.light, False)
    pen.stroke([(0.0, -0.9), (0.16, -0.3), (0.16, 0.2), (0.02, 0.58)], 0.05, pen.edge)


def pomegranate(pen: Pen, wobble: float) -> None:
    """Draw a round fruit with a crown, burst open over its seeds."""
    pen.polygon([(-0.16, -0.5), (-0.4, -0.98), (-0.1, -0.76), (0.0, -1.0), (0.1, -0.76), (0.4, -0.98), (0.16, -0.5)])
    pen.ellipse(0, 0.2, 0.78, 0.74)
    pen.polygon(arc(0, 0.24, 0.34 + 0.08 * wobble, 0.5, 0, math.tau, steps=14), pen.dark)
    for x, y in ((0, -0.08), (-0.13, 0.14), (0.13, 0.14), (0, 0.36), (-0.12, 0.55), (0.12, 0.55)):
        pen.ellipse(x, y, 0.09, 0.1, fill=pen.light, outline=False)


def gourd(pen: Pen, wobble: float) -> None:
    """Draw a large bulb under a small one, with a stem and a girdle."""
    pen.outlined_stroke([(0.02, -0.7), (0.1, -0.9), (0.3, -0.96)], 0.08, pen.dark)
    pen.ellipse(0, 0.38, 0.62, 0.58)
    pen.ellipse(0, -0.38, 0.4, 0.38)
    pen.ellipse(-0.2, 0.28, 0.14, 0.24 + 0.06 * wobble, 0.3, pen.light, outline=False)
    pen.outlined_stroke([(-0.3, -0.08), (0.3, -0.08)], 0.12, pen.dark)

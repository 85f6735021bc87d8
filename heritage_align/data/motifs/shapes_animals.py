"""Drawings of animals, all seen from the side or from above. `wobble` in 0..1 varies a drawing."""

from __future__ import annotations

import math

from heritage_align.data.motifs.pen import Pen, arc, petal, shift


def crane(pen: Pen, wobble: float) -> None:
    """Draw a flying crane: broad wings raised, a long neck forward and long legs behind."""
    pen.outlined_stroke([(-0.3, 0.3), (-0.95, 0.62)], 0.07, pen.dark)
    pen.outlined_stroke([(-0.25, 0.4), (-0.8, 0.86)], 0.07, pen.dark)
    lift = 0.12 * wobble
    pen.polygon([(-0.1, 0.1), (-0.72, -0.5 - lift), (-0.62, -0.9), (-0.1, -0.62), (0.28, 0.05)], pen.light)
    pen.polygon([(0.0, 0.1), (0.1, -0.9), (0.34, -0.98), (0.52, -0.62 - lift), (0.42, 0.1)])
    for x in (0.18, 0.32):
        pen.stroke([(x, -0.75), (x - 0.02, -0.2)], 0.035, pen.edge)
    pen.ellipse(0.08, 0.2, 0.46, 0.24, -0.35)
    pen.outlined_stroke([(0.4, 0.08), (0.62, 0.22), (0.72, -0.06), (0.8, -0.14)], 0.1)
    pen.ellipse(0.8, -0.16, 0.11, 0.1, fill=pen.dark)
    pen.outlined_stroke([(0.86, -0.16), (0.99, -0.1)], 0.04, pen.dark)


def dragon(pen: Pen, wobble: float) -> None:
    """Draw a coiled body with a spiked back, a horned head and claws."""
    turns = [(0.25 + 0.5 * t, math.tau * 1.15 * t - 2.2 + 0.3 * wobble) for t in (i / 22 for i in range(23))]
    spine = [(r * math.cos(a), r * math.sin(a)) for r, a in turns]
    for r, a in turns[2:-1:2]:
        pen.polygon(petal(a, r, r + 0.24, 0.14), pen.dark)
    for r, a in (turns[9], turns[15], turns[20]):
        foot = ((r + 0.3) * math.cos(a + 0.1), (r + 0.3) * math.sin(a + 0.1))
        pen.outlined_stroke([(r * math.cos(a), r * math.sin(a)), foot], 0.1, pen.main)
    pen.outlined_stroke(spine, 0.24)
    pen.stroke(spine, 0.07, pen.light)
    x, y = spine[0]
    pen.polygon(
        shift(
            [
                (-0.26, 0.1),
                (-0.2, -0.22),
                (-0.3, -0.42),
                (0.0, -0.22),
                (0.24, -0.4),
                (0.22, -0.1),
                (0.34, 0.2),
                (0.0, 0.26),
            ],
            x,
            y,
        )
    )
    pen.ellipse(x + 0.02, y - 0.02, 0.08, 0.08, fill=pen.light)


def fish(pen: Pen, wobble: float) -> None:
    """Draw a swimming fish with scales and a forked tail."""
    bend = 0.15 * (wobble - 0.5)
    pen.polygon([(-0.42, 0.0), (-0.98, -0.5 + bend), (-0.8, 0.0 + bend), (-0.98, 0.5 + bend)], pen.light)
    pen.polygon([(-0.15, -0.3), (0.0, -0.72), (0.36, -0.32)], pen.dark)
    pen.polygon([(-0.1, 0.3), (0.06, 0.66), (0.26, 0.32)], pen.dark)
    pen.polygon(petal(math.pi, -0.98, 0.6, 0.84))
    for x in (-0.22, 0.0, 0.22):
        for y in (-0.16, 0.06):
            pen.stroke(arc(x, y + 0.05, 0.11, 0.12, math.pi / 2, math.pi * 1.5, steps=5), 0.04, pen.edge)
    pen.stroke(arc(0.42, 0.0, 0.14, 0.34, math.pi * 0.6, math.pi * 1.4, steps=7), 0.045, pen.edge)
    pen.ellipse(0.68, -0.1, 0.09, 0.09, fill=pen.light)


def bat(pen: Pen, wobble: float) -> None:
    """Draw a bat from above: scalloped wings spread wide, ears, a small body."""
    tip = -0.45 + 0.15 * wobble
    wing = [
        (0.08, -0.2),
        (0.45, -0.55),
        (0.98, tip),
        (0.92, 0.3),
        (0.72, 0.02),
        (0.55, 0.42),
        (0.38, 0.1),
        (0.2, 0.48),
    ]
    pen.polygon([(0.08, 0.2), *wing])
    pen.polygon([(-0.08, 0.2), *((-x, y) for x, y in wing)])
    for sign in (-1, 1):
        pen.stroke([(sign * 0.1, -0.1), (sign * 0.7, -0.1)], 0.04, pen.edge)
        pen.polygon([(sign * 0.02, -0.4), (sign * 0.2, -0.72), (sign * 0.2, -0.3)], pen.dark)
    pen.ellipse(0, 0.08, 0.17, 0.46, fill=pen.dark)
    pen.ellipse(0, -0.3, 0.19, 0.18)


def butterfly(pen: Pen, wobble: float) -> None:
    """Draw a butterfly from above: four rounded wings with spots, feelers."""
    for sign in (-1, 1):
        pen.ellipse(sign * 0.36, 0.46, 0.3, 0.4 + 0.06 * wobble, -sign * 0.5, pen.light)
        pen.ellipse(sign * 0.52, -0.24, 0.5, 0.38, -sign * 0.6)
        pen.ellipse(sign * 0.58, -0.28, 0.16, 0.13, fill=pen.dark)
        pen.ellipse(sign * 0.38, 0.5, 0.1, 0.12, fill=pen.dark)
        pen.stroke([(0, -0.45), (sign * 0.2, -0.82), (sign * 0.36, -0.92)], 0.05, pen.edge)
    pen.ellipse(0, 0.05, 0.1, 0.56, fill=pen.dark)

"""Colours that stay apart for colour-blind readers, and the colour scale of heat maps."""

from __future__ import annotations

from typing import Any

import numpy as np

RGB = tuple[int, int, int]

PHRASE_COLOURS: tuple[RGB, ...] = (
    (213, 94, 0),
    (0, 114, 178),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
)
"""Okabe and Ito's palette without black and yellow (yellow is lost on white): vermilion, blue, green, purple,
orange, sky blue."""

# Five anchors of matplotlib's viridis (CC0): lightness rises steadily, so the scale reads in grey print and
# for every kind of colour vision.
_VIRIDIS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], dtype=np.float64)


def phrase_colour(index: int) -> RGB:
    """Return the colour of the phrase with this number (from 0); colours repeat after six."""
    return PHRASE_COLOURS[index % len(PHRASE_COLOURS)]


def luminance(colour: RGB) -> float:
    """Return the relative luminance in 0..1 (WCAG 2.2)."""
    parts = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: RGB, second: RGB) -> float:
    """Return the contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def ink_on(colour: RGB) -> RGB:
    """Return black or white, whichever is easier to read on `colour`."""
    white, black = (255, 255, 255), (0, 0, 0)
    return white if contrast(white, colour) >= contrast(black, colour) else black


def heat_colours(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Map values in 0..1 of any shape ``(...)`` to RGB ``(..., 3)`` uint8."""
    position = np.clip(values, 0.0, 1.0)
    anchors = np.linspace(0.0, 1.0, len(_VIRIDIS))
    channels = [np.interp(position, anchors, _VIRIDIS[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)

"""Boxes, xyxy: their areas, what they have in common, and the pixels that are cut out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]
"""Boxes ``(..., 4)``, or numbers of them: areas ``(...)``."""


def areas(boxes: Boxes) -> Boxes:
    """Return the areas ``(...)`` of boxes ``(..., 4)``; 0 for one with swapped corners."""
    found: Boxes = (boxes[..., 2:] - boxes[..., :2]).clip(0, None).prod(-1)
    return found


def common_areas(windows: Boxes, boxes: Boxes) -> Boxes:
    """Return the area that every window ``(m, 4)`` has in common with every box ``(n, 4)``, ``(m, n)``."""
    low = np.maximum(windows[:, None, :2], boxes[None, :, :2])
    high = np.minimum(windows[:, None, 2:], boxes[None, :, 2:])
    return areas(np.concatenate([low, high], axis=-1))


def pixel_box(box: Sequence[float]) -> tuple[int, int, int, int]:
    """Return the whole pixels that a region ``(x0, y0, x1, y1)`` is cropped to, at least one."""
    x0, y0, x1, y1 = box
    left, top = int(x0), int(y0)
    return left, top, max(left + 1, round(x1)), max(top + 1, round(y1))

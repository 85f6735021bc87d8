"""From a region's box to the pixels that are cut out."""

from __future__ import annotations

from collections.abc import Sequence


def pixel_box(box: Sequence[float]) -> tuple[int, int, int, int]:
    """Return the whole pixels that a region ``(x0, y0, x1, y1)`` is cropped to, at least one."""
    x0, y0, x1, y1 = box
    left, top = int(x0), int(y0)
    return left, top, max(left + 1, round(x1)), max(top + 1, round(y1))

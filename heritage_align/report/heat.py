"""From responses of overlapping regions to a map over pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


def check_responses(boxes: Floats, phrases: int, responses: Floats, keep: Bools | None) -> Bools:
    """Check shapes and values, and return the regions that count (`counted_regions`).

    Raises:
        ValueError: names the argument, what was expected and what came.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) == 0:
        raise ValueError(f"boxes: expected (n_regions, 4) with at least one region, got {tuple(boxes.shape)}")
    if responses.shape != (phrases, len(boxes)):
        wanted = f"(n_fragments, n_regions) = ({phrases}, {len(boxes)})"
        raise ValueError(f"responses: expected {wanted}, got {tuple(responses.shape)}")
    if phrases == 0:
        raise ValueError("phrases: expected at least one, got none")
    if not np.isfinite(boxes).all() or boxes.min() < -0.01 or boxes.max() > 1.01:
        raise ValueError(f"boxes: expected fractions in 0..1, got {boxes.min()} to {boxes.max()}")
    if keep is not None and keep.shape != (len(boxes),):
        raise ValueError(f"keep: expected ({len(boxes)},), got {tuple(keep.shape)}")
    counted = counted_regions(len(boxes), keep)
    if not np.isfinite(responses[:, counted]).all():
        raise ValueError("responses: expected finite values for every region that is kept")
    return counted


def counted_regions(number: int, keep: Bools | None) -> Bools:
    """Return which of so many regions count ``(n_regions,)``; a mask that keeps none is ignored, as in the scores."""
    return np.ones(number, dtype=bool) if keep is None or not keep.any() else keep.astype(bool)


def best_regions(responses: Floats, counted: Bools) -> list[int]:
    """Return for every fragment the region that answers it best, the first of equals; never a masked one."""
    return [int(i) for i in np.where(counted, responses, -np.inf).argmax(axis=1)]


def pixel_box(box: Floats, width: int, height: int) -> tuple[int, int, int, int]:
    """Return ``(left, top, right, bottom)`` in pixels, end excluded, inside the picture, never empty."""
    left = min(max(round(float(box[0]) * width), 0), width - 1)
    top = min(max(round(float(box[1]) * height), 0), height - 1)
    right = min(max(round(float(box[2]) * width), left + 1), width)
    bottom = min(max(round(float(box[3]) * height), top + 1), height)
    return left, top, right, bottom


def heat_maps(boxes: Floats, responses: Floats, counted: Bools, size: tuple[int, int]) -> Floats:
    """Spread responses over pixels: the mean over the regions that cover a pixel.

    Args:
        boxes: ``(n_regions, 4)`` xyxy as fractions.
        responses: ``(n_fragments, n_regions)``.
        counted: ``(n_regions,)`` bool, the regions that take part.
        size: ``(width, height)`` of the map in pixels.

    Returns:
        ``(n_fragments, height, width)`` float64, NaN where no region covers the pixel.
    """
    width, height = size
    total = np.zeros((len(responses), height, width))
    count = np.zeros((height, width))
    for region in np.flatnonzero(counted):
        left, top, right, bottom = pixel_box(boxes[region], width, height)
        total[:, top:bottom, left:right] += responses[:, region, None, None]
        count[top:bottom, left:right] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)

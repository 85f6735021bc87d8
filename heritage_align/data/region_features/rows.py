"""Runs of rows, one an image: chosen, filled in, averaged, masked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Mask = NDArray[np.bool_]


def taken(column: Array | None, rows: Array | slice) -> Array | None:
    """Return some rows of a column that may be missing."""
    return None if column is None else column[rows]


def with_rows(column: Array | None, at: Array, value: float) -> Array | None:
    """Return the column with a value put in before the rows `at` of the one as it is."""
    return None if column is None else np.insert(column, at, value)


def best_first(start: int, stop: int, objectness: Array | None, count: int | None) -> NDArray[np.int64]:
    """Return the rows of one image: all in their order, or the best `count`, equal ones in their order."""
    rows = np.arange(start, stop)
    if count is not None and objectness is not None:
        rows = rows[np.argsort(-objectness[start:stop], kind="stable")]
    return rows[:count]


def means(values: Array, offsets: Array, images: Sequence[int]) -> NDArray[np.float32]:
    """Return ``(len(images), dim)``, the mean row of each image, none of which is empty; NaN and infinity as they
    come, without numpy's warnings."""
    found = np.empty((len(images), values.shape[1]), dtype=np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        for row, image in enumerate(images):
            found[row] = values[offsets[image] : offsets[image + 1]].mean(axis=0, dtype=np.float32)
    return found


def narrowed(before: Mask | None, keep: Mask, offsets: Array) -> Mask:
    """Return `before` and `keep`, `before` (None is all) for an image of which nothing would be left."""
    former = np.ones(len(keep), dtype=bool) if before is None else before
    both: Mask = former & keep
    for start, stop in pairwise(offsets):
        if not both[start:stop].any():
            both[start:stop] = former[start:stop]
    return both

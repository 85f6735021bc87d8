"""What arrays of region features must be; every fault is a DataError that begins with the source."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heritage_align.errors import DataError

Array = NDArray[Any]

SHORTEST_SIDE = 1e-4
"""A box's shortest side as a fraction of the picture's: detectors give boxes of no width, whose features are as good
as any; they are widened to this."""

_SLACK = 1e-3
"""By which boxes may lie outside of the picture: half-precision fractions round by up to 0.0005. They are clipped."""

_SHOWN = 3


def first_of(ids: Sequence[str]) -> str:
    """Say how many images there are and name the first: ``2 images ('a', 'b')``."""
    names = ", ".join(map(repr, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")
    return f"{len(ids)} image{'' if len(ids) == 1 else 's'} ({names})"


def ids(source: str, given: Sequence[str]) -> None:
    """Refuse ids that are not strings, blank, there twice, or not to be written as UTF-8 (a lone surrogate)."""
    seen: set[str] = set()
    for image_id in given:
        if not isinstance(image_id, str) or not image_id.strip():
            shown = reprlib.repr(image_id)  # of lists in lists in lists repr makes a RecursionError
            raise DataError(f"{source}: {shown} is no image id, expected a string that is not blank")
        if image_id in seen:
            raise DataError(f"{source}: image id {image_id!r} occurs twice")
        seen.add(image_id)
    try:
        "".join(seen).encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{source}: an image id holds a lone surrogate, which no UTF-8 file can") from None


def matrix(source: str, name: str, given: Array, shape: tuple[int, int] | None = None) -> None:
    """Refuse what is no matrix of floating numbers, or not of this shape."""
    if given.dtype.kind != "f":
        raise DataError(f"{source}: {name!r} holds {given.dtype}, expected floating numbers")
    if given.ndim != 2 or given.shape[1] == 0 or (shape is not None and given.shape != shape):
        wanted = "(rows, dim)" if shape is None else shape
        raise DataError(f"{source}: {name!r} has shape {given.shape}, expected {wanted}")


def column(source: str, name: str, given: Array | None, total: int, kinds: str) -> None:
    """Refuse what is no ``(total,)`` array of these kinds of numbers, all finite; None passes."""
    if given is None:
        return
    if given.shape != (total,) or given.dtype.kind not in kinds:
        raise DataError(
            f"{source}: {name!r} is {given.dtype} {given.shape}, expected one number for each of {total} rows"
        )
    if not np.isfinite(given).all():
        raise DataError(f"{source}: {name!r} of row {int(np.argmin(np.isfinite(given)))} is not finite")


def offsets(source: str, given: Array, images: int, total: int) -> NDArray[np.int64]:
    """Return offsets as int64; refuse those that do not ascend from 0 to `total` in as many steps as images."""
    if given.dtype.kind not in "iu" or given.shape != (images + 1,):
        raise DataError(
            f"{source}: 'offsets' is {given.dtype} {given.shape}, expected {images + 1} integers (images + 1)"
        )
    found = given.astype(np.int64)
    falling = np.flatnonzero(np.diff(found) < 0)
    if len(falling):
        at = int(falling[0])
        raise DataError(f"{source}: 'offsets' do not ascend: {found[at]} is followed by {found[at + 1]}")
    if found[0] != 0 or found[-1] != total:
        raise DataError(f"{source}: 'offsets' go from {found[0]} to {found[-1]}, the regions from 0 to {total}")
    return found


def boxes(source: str, given: Array, total: int, place: Callable[[int], str]) -> NDArray[np.float32]:
    """Return boxes as fractions of the picture, clipped to it and widened to `SHORTEST_SIDE`.

    Refuses those that are not ``(total, 4)``, not finite, with swapped corners, or further outside than rounding
    explains; `place` names a row.
    """
    if given.shape != (total, 4) or given.dtype.kind != "f":
        raise DataError(f"{source}: 'boxes' is {given.dtype} {given.shape}, expected floating numbers {(total, 4)}")
    found = given.astype(np.float32)
    usable = np.isfinite(found).all(1) & (found >= -_SLACK).all(1) & (found <= 1 + _SLACK).all(1)
    usable &= (found[:, 2:] >= found[:, :2]).all(1)
    if not usable.all():
        row = int(np.argmin(usable))
        raise DataError(
            f"{source}: {place(row)}: box {found[row].tolist()} is no box within its picture (x0, y0, x1, y1 as "
            "fractions of width and height)"
        )
    found = found.clip(0, 1)
    low = np.minimum(found[:, :2], np.float32(1 - SHORTEST_SIDE))
    return np.concatenate([low, np.maximum(found[:, 2:], low + np.float32(SHORTEST_SIDE)).clip(max=1)], axis=1)


def finite(source: str, name: str, rows: Array, place: Callable[[int], str]) -> None:
    """Refuse NaN and infinity; names the first row by `place` and counts the others."""
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        more = f" ({int(bad.sum())} rows are)" if bad.sum() > 1 else ""
        raise DataError(f"{source}: {place(int(np.argmax(bad)))}: {name} are NaN or infinite{more}")


def pixel_fractions(given: Array, width: float, height: float) -> NDArray[np.float32]:
    """Return ``(n, 4)`` boxes in pixels as fractions of a picture of this size.

    Boxes may end up to a pixel outside, as those of detectors that count the last pixel do; they are clipped.

    Raises:
        ValueError: a size that is not positive, or a box further outside.
    """
    if not (width > 0 and height > 0):
        raise ValueError(f"a picture of {width} x {height} pixels")
    limits = np.array([width, height, width, height], dtype=np.float64)
    outside = (given < -1).any(1) | (given > limits + 1).any(1)
    if outside.any():
        raise ValueError(
            f"box {given[int(np.argmax(outside))].tolist()} reaches beyond its picture of {width} x {height}"
        )
    fractions: NDArray[np.float32] = (given / limits).clip(0, 1).astype(np.float32)
    return fractions

"""The arrays of a ``.npz`` file by any of the names that are in use; pickles in it are never opened."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import NDArray

from heritage_align.data.npy_file import read_header
from heritage_align.errors import DataError
from heritage_align.foreign_files import foreign

Array = NDArray[Any]

NAMES = {
    "features": ("features", "values", "x"),
    "offsets": ("offsets",),
    "lengths": ("lengths", "num_boxes", "num_bbox"),
    "ids": ("ids", "image_ids", "image_id"),
    "boxes": ("boxes", "bbox"),
    "objectness": ("objectness", "scores", "objects_conf"),
    "global": ("global", "global_features"),
    "keypoints": ("keypoints",),
    "keep": ("keep",),
    "image_w": ("image_w", "widths"),
    "image_h": ("image_h", "heights"),
}


def npz_dim(path: Path) -> int:
    """Return the width of the features of a file, from the header of its array; raises DataError."""
    return int(_opened(path, lambda archive: _header_shape(path, archive))[-1])


def read_arrays(path: Path) -> dict[str, Array]:
    """Read the arrays that are known by name, under the names of this module."""

    def read(archive: Any) -> dict[str, Array]:
        there = {name: _present(archive.files, name) for name in NAMES}
        return {name: _read(path, archive, key) for name, key in there.items() if key is not None}

    arrays: dict[str, Array] = _opened(path, read)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # bytes, of a file in the archive that is no .npy
            raise DataError(f"{path}: {name!r} is no array")
        # Padded features of pictures without any region are of shape (n, 0, dim); a file may claim 10^9 of other rows
        # that have no bytes, and boxes or texts would be made for each.
        if array.nbytes == 0 and array.ndim and len(array) and not (array.ndim == 3 and array.shape[1] == 0):
            raise DataError(f"{path}: {name!r} is {array.dtype} {array.shape}, rows without content")
    if "features" not in arrays:
        raise DataError(f"{path}: has no array of features; known names: {', '.join(NAMES['features'])}")
    if arrays["features"].dtype.kind != "f":
        raise DataError(f"{path}: features hold {arrays['features'].dtype}, expected floating numbers")
    return arrays


def _opened(path: Path, use: Callable[[Any], Any]) -> Any:
    try:
        if (instead := foreign(path)) is not None:
            raise DataError(f"{path}: {instead}")
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path}: is no .npz archive, or not a whole one")
        with np.load(path, allow_pickle=False) as archive:
            return use(archive)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile, zlib, struct and numpy's parser of headers raise a dozen different ones
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: cannot be read as arrays: {first_line}") from error


def _header_shape(path: Path, archive: Any) -> tuple[int, ...]:
    name = _present(archive.files, "features")
    if name is None:
        raise DataError(f"{path}: has no array of features; known names: {', '.join(NAMES['features'])}")
    with archive.zip.open(f"{name}.npy") as stream:
        shape = read_header(stream)[0]
    if len(shape) not in (2, 3):
        raise DataError(f"{path}: features have shape {shape}, expected (total_regions, dim) or (n, longest, dim)")
    return shape


def _read(path: Path, archive: Any, key: str) -> Any:
    """Return an array, or the bytes of what is none; numpy makes what a header claims before it looks what there is."""
    with archive.zip.open(f"{key}.npy") as stream:
        is_array = stream.peek(len(MAGIC_PREFIX)).startswith(MAGIC_PREFIX)
        shape, _, dtype = read_header(stream) if is_array else ((), False, np.dtype(np.uint8))
    if dtype.hasobject:  # numpy's own advice would run what the file says
        raise DataError(
            f"{path}: {key!r} holds Python objects, which could run code: save it as numbers or texts "
            f"(numpy.asarray({key}.tolist()))"
        )
    claimed, there = math.prod(shape) * dtype.itemsize, archive.zip.getinfo(f"{key}.npy").file_size
    if claimed > there:
        raise DataError(f"{path}: {key!r} is not whole: {dtype} {shape} are {claimed} bytes, there are {there}")
    return archive[key]


def _present(files: list[str], name: str) -> str | None:
    return next((key for key in NAMES[name] if key in files), None)


def single(values: Array) -> Array:
    """Return float64 as float32, which is what models take, and float16 as it is."""
    with np.errstate(over="ignore"):  # what is infinite as float32 is named with its picture and region
        return values.astype(np.float32) if values.dtype.itemsize > 4 else values

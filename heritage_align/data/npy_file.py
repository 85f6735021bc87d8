"""One array of a ``.npy`` file, mapped after its header was compared with the file's size; pickles are never opened."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from heritage_align.errors import DataError
from heritage_align.foreign_files import foreign

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the order is Fortran's, and type, as the beginning of a ``.npy`` file has them.

    A damaged one raises whatever numpy's parser does.
    """
    shape, fortran, dtype = _HEADERS[npy.read_magic(stream)](stream)
    return shape, fortran, dtype


def mapped_npy(path: Path) -> NDArray[Any]:
    """Return an array of floating numbers; raises DataError for any other content, and for a file that was cut off."""
    try:
        instead = foreign(path)
        if instead is not None:
            raise DataError(f"{path}: {instead}")
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            shape, fortran, dtype = read_header(stream)
            start = stream.tell()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except DataError:
        raise
    except Exception as error:  # numpy's parser of headers raises a dozen different ones
        raise DataError(f"{path}: is no .npy file, or its header is damaged") from error
    if dtype.kind != "f":
        raise DataError(f"{path}: holds {dtype if dtype.kind != 'O' else 'objects'}, expected floating numbers")
    end = start + prod(shape) * dtype.itemsize
    if end != size:
        raise DataError(f"{path}: is not whole: an array of shape {shape} should make {end} bytes, the file has {size}")
    if prod(shape) == 0:  # nothing to map is an error of mmap
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, mode="r", offset=start, shape=shape, order="F" if fortran else "C")

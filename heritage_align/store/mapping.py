"""A safetensors file mapped into memory: nothing is read before it is used, and what was read can be let go."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heritage_align.errors import StoreError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I8": torch.int8,
    "BOOL": torch.bool,
}
_MADV_DONTNEED = 4


class UnreadableShard(StoreError):
    """The system does not let a shard be read, which says nothing against what it holds."""


class MappedTensors(Mapping[str, Tensor]):
    """The tensors of a file by name, as views of its mapping.

    safetensors' own reader maps too; this one can be told to `release` the pages that were read, without which a search
    over a whole store leaves all of it resident. It holds no file open: a store may have thousands of shards.

    Attributes:
        path: the file.
        metadata: of the file's header.
    """

    def __init__(self, path: Path) -> None:
        """Read the header and map the file; raises StoreError that names the file if it is not whole."""
        self.path = path
        try:
            with path.open("rb") as stream:
                self._state = _state(os.fstat(stream.fileno()))
                size = stream.seek(0, 2)
                stream.seek(0)
                length = int.from_bytes(stream.read(8), "little")
                if not 0 < length <= size - 8:
                    raise ValueError(f"its header should have {length} bytes, the file has {size}")
                header: dict[str, Any] = json.loads(stream.read(length))
            self.metadata: dict[str, str] = header.pop("__metadata__", {})
            self._places = {name: _place(name, entry, 8 + length) for name, entry in header.items()}
            end = max(
                (start + _bytes(dtype, shape) for dtype, shape, start in self._places.values()), default=8 + length
            )
            if end != size:
                raise ValueError(f"it should have {end} bytes and has {size}")
        except FileNotFoundError as error:
            raise StoreError(f"{path}: is missing") from error
        except OSError as error:
            raise UnreadableShard(f"{path}: cannot be read: {error.strerror or error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise StoreError(f"{path}: is not a whole shard: {error}") from error
        try:
            storage: Any = torch.UntypedStorage.from_file(str(path), False, size)
        except RuntimeError as error:
            raise UnreadableShard(f"{path}: cannot be mapped: {error}") from error
        self._storage: torch.UntypedStorage = storage  # from_file is annotated as any kind of storage

    def __getitem__(self, name: str) -> Tensor:
        dtype, shape, start = self._places[name]
        strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
        return torch.empty(0, dtype=dtype).set_(self._storage, start // dtype.itemsize, shape, strides)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def nbytes(self, names: Iterable[str]) -> int:
        """Return the bytes of some of the tensors."""
        return sum(_bytes(dtype, shape) for dtype, shape, _ in (self._places[name] for name in names))

    def refuse_changed(self) -> None:
        """Raise StoreError if the file is no longer the one that was mapped.

        One that was replaced or deleted would go on to give what it held; one that was cut while it is mapped ends the
        process when it is read (SIGBUS). Costs one call of the system, 1 to 2 microseconds on a local disk.
        """
        try:
            state = _state(os.stat(self.path))
        except OSError as error:
            raise StoreError(f"{self.path}: is gone since the store was opened: {error.strerror or error}") from error
        if state != self._state:
            raise StoreError(f"{self.path}: was changed since the store was opened; open the store again")

    def release(self, names: Iterable[str] | None = None) -> None:
        """Give pages that were read back to the system; views stay good, and are read again when they are used.

        Whatever was written into a view is lost. Does nothing where the system is not Linux.

        Args:
            names: tensors whose pages are given back, but for those that they share with a neighbour; all by default.
        """
        advise = _madvise()
        if advise is None:
            return
        base = self._storage.data_ptr()
        if names is None:
            advise(base, self._storage.nbytes(), _MADV_DONTNEED)
            return
        for name in names:
            dtype, shape, start = self._places[name]
            first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
            last = (start + _bytes(dtype, shape)) // mmap.PAGESIZE * mmap.PAGESIZE
            if last > first:
                advise(base + first, last - first, _MADV_DONTNEED)


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _place(name: str, entry: Mapping[str, Any], data: int) -> tuple[torch.dtype, tuple[int, ...], int]:
    dtype, shape = _DTYPES[entry["dtype"]], tuple(int(n) for n in entry["shape"])
    start, stop = (data + int(n) for n in entry["data_offsets"])
    sides = min(shape, default=0)
    if sides < 0 or stop - start != _bytes(dtype, shape) or start < data or start % dtype.itemsize:
        raise ValueError(f"the place of tensor {name!r} does not fit its shape")
    return dtype, shape, start


def _bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return prod(shape) * dtype.itemsize


@cache
def _madvise() -> Callable[[int, int, int], int] | None:
    # Python's own mmap has madvise, but keeps a file open for every mapping.
    if sys.platform != "linux":
        return None
    function = ctypes.CDLL(None, use_errno=True).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    function.restype = ctypes.c_int
    return function

"""One safetensors file: the form in which region features are kept.

Tensors ``values`` (total_regions, dim) fp16 or fp32, ``offsets`` (n + 1) integers, and where they are known ``boxes``
(total_regions, 4) as fractions, ``objectness`` (total_regions), ``global`` (n, dim), ``keypoints`` (total_regions) and
``keep`` (total_regions); the metadata field ``ids`` is a JSON list of the ``n`` image ids. Without ``boxes`` every
region is the whole picture, so that an explanation cannot show where it looked.

The file is mapped, not read: opening takes milliseconds whatever its size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from heritage_align.data.region_features import checks
from heritage_align.data.region_features.features import RegionFeatures
from heritage_align.data.spans import FileSpans
from heritage_align.errors import DataError

_DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "BOOL": np.dtype("?"),
}
_LONGEST_HEADER = 10**8  # bytes; the limit of the safetensors library


class _Tensor(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int


def read_safetensors(path: Path) -> RegionFeatures:
    """Map a file; raises DataError that names it and what is wrong."""
    file = FileSpans(path)
    tensors, metadata = _header(path)
    for name in ("values", "offsets"):
        if name not in tensors:
            raise DataError(f"{path}: has no tensor {name!r}, only {', '.join(map(repr, tensors)) or 'none'}")
    if len(tensors["values"].shape) != 2 or not tensors["values"].shape[1]:
        # Before boxes of the whole picture are made for each row: rows without content cost nothing.
        raise DataError(f"{path}: 'values' has shape {tensors['values'].shape}, expected (total_regions, dim)")
    arrays = {name: _mapped(path, tensor) for name, tensor in tensors.items()}
    values = arrays["values"]
    return RegionFeatures(
        str(path),
        _ids(path, metadata),
        arrays["offsets"],
        values,
        arrays.get("boxes", whole_boxes(len(values))),
        arrays.get("objectness"),
        arrays.get("global"),
        arrays.get("keypoints"),
        arrays.get("keep"),
        (file,),
    )


def safetensors_dim(path: Path) -> int:
    """Return the width of the features, from the file's header."""
    shape = _header(path)[0].get("values", _Tensor(np.dtype("<f4"), (), 0)).shape
    if len(shape) != 2:
        raise DataError(f"{path}: has no tensor 'values' of shape (total_regions, dim)")
    return shape[1]


def whole_boxes(total: int) -> NDArray[np.float32]:
    """Return ``(total, 4)`` boxes that are the whole picture."""
    return np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (total, 1))


def write_region_features(
    path: str | Path,
    features: RegionFeatures,
    *,
    dtype: Literal["fp16", "fp32"] = "fp16",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write features to one ``.safetensors`` file, atomically.

    Args:
        path: the file; an old one is replaced when the new one is whole.
        features: of any source; converting a file is ``write_region_features(new, read_region_features(old))``.
        dtype: of features and global features. fp16 halves the file; it takes numbers up to 65504.
        metadata: further strings for the header, for example what the detector was.

    Raises:
        DataError: a wrong ending, features that are NaN or infinite or too large for fp16.
        StoreError: the file cannot be written.
    """
    from heritage_align.store.files import write_atomically  # imports torch with its package

    path = Path(path)
    features.refuse_changed()
    if path.suffix.lower() != ".safetensors":
        raise DataError(f"{path}: region features are written to a .safetensors file")
    wanted = np.float16 if dtype == "fp16" else np.float32
    arrays = {"values": features.values, "global": features.global_features}
    tensors: dict[str, NDArray[Any]] = {"offsets": features.offsets, "boxes": features.boxes}
    for name, given in arrays.items():
        if given is None:
            continue
        checks.finite(features.source, name, given, features.place if name == "values" else _nth(features))
        with np.errstate(over="ignore"):
            tensors[name] = np.ascontiguousarray(given, dtype=wanted)
        if not np.isfinite(tensors[name]).all():
            raise DataError(f"{features.source}: {name!r} reaches {np.abs(given).max():.3g}, which fp16 cannot hold")
    for name, column, kept in (
        ("objectness", features.objectness, np.float32),
        ("keypoints", features.keypoints, np.int32),
        ("keep", features.keep, np.bool_),
    ):
        if column is not None:
            tensors[name] = np.ascontiguousarray(column, dtype=kept)
    header = {**(metadata or {}), "ids": json.dumps(features.ids, ensure_ascii=False)}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, header))


def _nth(features: RegionFeatures) -> Any:
    return lambda row: f"image {features.ids[row]!r}"


def _header(path: Path) -> tuple[dict[str, _Tensor], dict[str, str]]:
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= min(size - 8, _LONGEST_HEADER):
                raise ValueError(f"its header should have {length} bytes, the file has {size}")
            header = json.loads(stream.read(length))
        metadata = header.pop("__metadata__", None) or {}
        tensors = {str(name): _tensor(name, entry, 8 + length) for name, entry in header.items()}
        end = max((t.start + prod(t.shape) * t.dtype.itemsize for t in tensors.values()), default=8 + length)
        if end != size:
            raise ValueError(f"it should have {end} bytes and has {size}")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise DataError(f"{path}: is no whole safetensors file: {error}") from error
    return tensors, metadata


def _tensor(name: str, entry: Mapping[str, Any], data: int) -> _Tensor:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"tensor {name!r} is of type {entry['dtype']}, expected one of {', '.join(_DTYPES)}")
    dtype, shape = _DTYPES[entry["dtype"]], tuple(int(side) for side in entry["shape"])
    start, stop = (data + int(offset) for offset in entry["data_offsets"])
    if min(shape, default=0) < 0 or start < data or stop - start != prod(shape) * dtype.itemsize:
        raise ValueError(f"the place of tensor {name!r} does not fit its shape {shape}")
    return _Tensor(dtype, shape, start)


def _mapped(path: Path, tensor: _Tensor) -> NDArray[Any]:
    if prod(tensor.shape) == 0:  # nothing to map is an error of mmap
        return np.empty(tensor.shape, tensor.dtype)
    try:
        return np.memmap(path, tensor.dtype, mode="r", offset=tensor.start, shape=tensor.shape)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be mapped: {error}") from error


def _ids(path: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    try:
        ids = json.loads(metadata["ids"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: metadata field 'ids' is no JSON list of image ids: {error!r}") from error
    if not isinstance(ids, list):
        raise DataError(f"{path}: metadata field 'ids' is no JSON list of image ids but {type(ids).__name__}")
    # Numbers are ids elsewhere (COCO's); anything else is refused with the rest.
    return tuple(str(image_id) if type(image_id) is int else image_id for image_id in ids)

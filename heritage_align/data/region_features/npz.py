"""Region features in one ``.npz`` file.

``ids`` (n,), and regions either end to end, ``features`` (total_regions, dim) with ``offsets`` (n + 1,), or padded,
``features`` (n, longest, dim) with their ``lengths`` (n,) or, where all images have as many, without. Further
``boxes``, ``objectness``, ``global`` (n, dim), ``keypoints`` and ``keep`` where they are known; boxes are fractions,
or pixels if ``image_w`` and ``image_h`` (n,) are there. Without boxes every region is the whole picture.

Other names that are understood are in `npz_archive.NAMES`.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from heritage_align.data.region_features.checks import offsets as checked_offsets
from heritage_align.data.region_features.checks import pixel_fractions
from heritage_align.data.region_features.features import RegionFeatures
from heritage_align.data.region_features.npz_archive import Array, read_arrays, single
from heritage_align.data.region_features.safetensors_file import whole_boxes
from heritage_align.errors import DataError


def read_npz(path: Path) -> RegionFeatures:
    """Read one file of all images; raises DataError that names the file and the array."""
    arrays = read_arrays(path)
    if "ids" not in arrays or arrays["ids"].ndim != 1:
        raise DataError(f"{path}: has no array 'ids' of one id an image")
    ids = _ids(path, arrays["ids"])
    features = arrays["features"]
    if features.ndim == 3:
        flat, offsets = _unpadded(path, arrays, len(ids))
    elif features.ndim == 2 and "offsets" in arrays:
        flat, offsets = arrays, checked_offsets(str(path), arrays["offsets"], len(ids), len(features))
    else:
        raise DataError(
            f"{path}: features have shape {features.shape}; two dimensions need 'offsets', three are padded"
        )
    boxes = flat.get("boxes", whole_boxes(len(flat["features"])))
    if "image_w" in arrays and "image_h" in arrays and "boxes" in flat:
        boxes = _in_fractions(path, boxes, offsets, ids, (arrays["image_w"], arrays["image_h"]))
    return RegionFeatures(
        str(path),
        ids,
        offsets,
        single(flat["features"]),
        boxes,
        flat.get("objectness"),
        arrays.get("global"),
        flat.get("keypoints"),
        flat.get("keep"),
    )


def _unpadded(path: Path, arrays: dict[str, Array], images: int) -> tuple[dict[str, Array], Array]:
    longest = arrays["features"].shape[1]
    lengths = arrays.get("lengths", np.full(images, longest))
    if lengths.shape != (images,) or lengths.dtype.kind not in "iu" or ((lengths < 0) | (lengths > longest)).any():
        raise DataError(f"{path}: 'lengths' must be {images} integers from 0 to {longest}")
    inside = np.arange(longest) < lengths[:, None]
    flat: dict[str, Array] = {}
    for name in ("features", "boxes", "objectness", "keypoints", "keep"):
        if name in arrays:
            if arrays[name].shape[:2] != inside.shape:
                raise DataError(f"{path}: {name!r} has shape {arrays[name].shape}, expected {inside.shape} first")
            flat[name] = arrays[name][inside]
    return flat, np.cumsum([0, *lengths])


def _in_fractions(path: Path, boxes: Array, offsets: Array, ids: tuple[str, ...], sizes: tuple[Array, Array]) -> Array:
    """Divide each image's boxes by its size; images that do not fit the boxes are refused."""
    if boxes.shape != (offsets[-1], 4):
        raise DataError(f"{path}: 'boxes' has shape {boxes.shape}, expected {(int(offsets[-1]), 4)}")
    if any(size.shape != (len(ids),) for size in sizes):
        raise DataError(f"{path}: 'image_w' and 'image_h' must have one number an image")
    parts = [np.empty((0, 4), dtype=np.float32)]
    for image_id, (start, stop), width, height in zip(ids, pairwise(offsets), *sizes):
        try:
            parts.append(pixel_fractions(boxes[start:stop], width, height))
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: image {image_id!r}: {error}") from error
    return np.concatenate(parts)


def _ids(path: Path, given: Array) -> tuple[str, ...]:
    if given.dtype.kind == "S":
        return tuple(value.decode("utf-8", "replace") for value in given.tolist())
    if given.dtype.kind not in "Uiu":
        raise DataError(f"{path}: 'ids' hold {given.dtype}, expected strings or integers")
    try:
        return tuple(map(str, given.tolist()))
    except (ValueError, SystemError) as error:  # numbers in the place of characters that are none
        raise DataError(f"{path}: 'ids' are no texts: {error}") from error

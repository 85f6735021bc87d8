"""Region features in a folder of ``.npz`` files, one an image.

An image's id is its file's path without ``.npz``. Each file has ``x`` (n_regions, dim), ``bbox`` in pixels,
``image_w`` and ``image_h``, as bottom-up-attention.pytorch writes them; its ``info`` is a pickle and is not opened.
Other names that are understood are in `npz_archive.NAMES`. Without boxes every region is the whole picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from heritage_align.data.problems import Problems
from heritage_align.data.region_features.checks import pixel_fractions
from heritage_align.data.region_features.features import RegionFeatures
from heritage_align.data.region_features.npz_archive import Array, read_arrays, single
from heritage_align.data.region_features.safetensors_file import whole_boxes

_LARGEST = 10**9  # pixels of a side


class _Picture(NamedTuple):
    features: Array
    boxes: Array
    objectness: Array | None


def read_npz_folder(folder: Path) -> RegionFeatures:
    """Read a folder with one file an image; raises DataError that lists the first files at fault."""
    problems = Problems(folder)
    pictures: dict[str, _Picture] = {}
    width = None
    for path in npz_files(folder):
        name = path.relative_to(folder)
        try:
            picture = _picture(path, width)
        except ValueError as error:  # DataError is one
            problems.add(name.as_posix(), str(error).removeprefix(f"{path}: "))
            continue
        width = picture.features.shape[1]
        pictures[name.with_suffix("").as_posix()] = picture
    problems.raise_if_any()
    found = pictures.values()
    scores = [picture.objectness for picture in found if picture.objectness is not None]
    return RegionFeatures(
        str(folder),
        tuple(pictures),
        np.cumsum([0, *(len(picture.features) for picture in found)]),
        np.concatenate([picture.features for picture in found]),
        np.concatenate([picture.boxes for picture in found]),
        np.concatenate(scores) if len(scores) == len(pictures) else None,
    )


def npz_files(folder: Path) -> list[Path]:
    """Return the ``.npz`` files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*.npz") if path.is_file())


def _picture(path: Path, width: int | None) -> _Picture:
    """Read one image; raises ValueError that says what is wrong with it."""
    arrays = read_arrays(path)
    features = arrays["features"]
    if features.ndim != 2 or width not in (None, features.shape[1]):
        raise ValueError(f"features have shape {features.shape}, expected (n_regions, {width or 'dim'})")
    if "lengths" in arrays:
        features = features[: _scalar(arrays, "lengths", len(features))]
    boxes = arrays.get("boxes", whole_boxes(len(features)))[: len(features)]
    if boxes.shape != (len(features), 4) or boxes.dtype.kind != "f":
        raise ValueError(f"boxes are {boxes.dtype} {boxes.shape}, expected floating numbers {(len(features), 4)}")
    if "boxes" in arrays:
        boxes = pixel_fractions(boxes, *(_scalar(arrays, name, _LARGEST) for name in ("image_w", "image_h")))
    scores = arrays.get("objectness")
    if scores is not None:
        scores = scores.reshape(-1)[: len(features)]
    return _Picture(single(features), boxes, scores)


def _scalar(arrays: dict[str, Array], name: str, most: int) -> int:
    value = arrays.get(name, np.empty(0))
    if value.size != 1 or value.dtype.kind not in "iuf" or not 0 <= value.item() <= most:
        raise ValueError(f"{name} must be one number from 0 to {most}")
    return int(value.item())

"""``{split}_ims.npy`` of VSE++, SCAN and BFAN, one split or a folder of them; see `heritage_align.data.precomputed`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heritage_align.data.precomputed import IMAGES, precomputed_splits, read_pictures
from heritage_align.data.region_features.features import RegionFeatures
from heritage_align.data.region_features.safetensors_file import whole_boxes
from heritage_align.data.spans import FileSpans
from heritage_align.errors import DataError

Array = NDArray[Any]


def read_precomputed_features(path: Path) -> RegionFeatures:
    """Map one file or all of a folder; raises DataError that names the file. Every region is the whole picture."""
    paths = [path] if path.is_file() else [path / f"{split}{IMAGES}" for split in precomputed_splits(path)]
    files = tuple(map(FileSpans, paths))
    parts = list(map(read_pictures, paths))
    for other, part in zip(paths, parts):
        if part.features.shape[2] != parts[0].features.shape[2]:
            raise DataError(
                f"{other}: features have {part.features.shape[2]} dimensions, those of {paths[0].name} "
                f"{parts[0].features.shape[2]}"
            )
    counts = [part.features.shape[1] for part in parts for _ in part.ids]
    values: Any = _Rows([part.features for part in parts])
    ids = tuple(image_id for part in parts for image_id in part.ids)
    return RegionFeatures(str(path), ids, np.cumsum([0, *counts]), values, whole_boxes(sum(counts)), files=files)


def precomputed_dim(path: Path) -> int:
    """Return the width of the features; raises as `read_precomputed_features`."""
    return read_precomputed_features(path).dim


class _Rows:
    """The regions of several mapped arrays as rows of one, copied when they are taken.

    An array of `numpy` cannot be made of files without reading them: Flickr30K's three splits have 8.8 GB.
    """

    ndim = 2

    def __init__(self, parts: Sequence[Array]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(part.shape[0] * part.shape[1] for part in parts)])
        self.shape = (int(self._starts[-1]), int(parts[0].shape[2]))
        self.dtype = np.result_type(*(part.dtype for part in parts))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Array:
        at = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        taken = np.empty((len(at), self.shape[1]), self.dtype)
        for part, start, stop in zip(self._parts, self._starts[:-1], self._starts[1:]):
            inside = (at >= start) & (at < stop)
            own = at[inside] - start
            taken[inside] = part[own // part.shape[1], own % part.shape[1]]
        return taken

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self[:].astype(dtype or self.dtype, copy=False)

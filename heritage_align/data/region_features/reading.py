"""Tell what a file of region features is, and read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from heritage_align.data.precomputed import precomputed_splits
from heritage_align.data.region_features.bottom_up import bottom_up_dim, read_bottom_up
from heritage_align.data.region_features.features import RegionFeatures
from heritage_align.data.region_features.from_store import read_store, store_dim
from heritage_align.data.region_features.npz import read_npz
from heritage_align.data.region_features.npz_archive import npz_dim
from heritage_align.data.region_features.npz_folder import read_npz_folder
from heritage_align.data.region_features.precomputed import precomputed_dim, read_precomputed_features
from heritage_align.data.region_features.safetensors_file import read_safetensors, safetensors_dim
from heritage_align.errors import DataError


class _Form(NamedTuple):
    read: Callable[[Path], RegionFeatures]
    dim: Callable[[Path], int]


_PRECOMPUTED = _Form(read_precomputed_features, precomputed_dim)
_FILES = {
    ".safetensors": _Form(read_safetensors, safetensors_dim),
    ".tsv": _Form(read_bottom_up, bottom_up_dim),
    ".npz": _Form(read_npz, npz_dim),
    ".npy": _PRECOMPUTED,
}
_STORE = _Form(read_store, store_dim)
_FOLDER = _Form(read_npz_folder, lambda folder: npz_dim(_any_npz(folder) or folder))


def read_region_features(path: str | Path) -> RegionFeatures:
    """Read region features of any form that is known, by the file's ending or what is in the folder.

    Raises:
        DataError: nothing is there, the form is not known, or the content is at fault; names file and place.
        StoreError: a store that is half built or damaged.
    """
    return _form(Path(path)).read(Path(path))


def feature_dim(path: str | Path) -> int:
    """Return the width of the features, from headers or the first image alone; raises as `read_region_features`."""
    return _form(Path(path)).dim(Path(path))


def _form(path: Path) -> _Form:
    if path.is_dir():
        if (path / "build.json").exists() or (path / "manifest.json").exists():
            return _STORE
        if _any_npz(path):
            return _FOLDER
        if precomputed_splits(path):
            return _PRECOMPUTED
        known = "a store, a folder of .npz files, or one of {split}_ims.npy with {split}_caps.txt"
        raise DataError(f"{path}: is none of these: {known}")
    if not path.exists():
        raise DataError(f"{path}: there is no such file of region features")
    if path.suffix.lower() not in _FILES:
        raise DataError(f"{path}: region features are read from {', '.join(_FILES)}, a folder of .npz files or a store")
    return _FILES[path.suffix.lower()]


def _any_npz(folder: Path) -> Path | None:
    return next(folder.rglob("*.npz"), None)

"""Features of a video's frames, one ``.npy`` a video, as VATEX's I3D features are published.

    features = read_frame_features("val")       # val/<videoID>.npy, (n_frames, dim), or (1, n_frames, dim)
    write_region_features("vatex_val.safetensors", features)

and then ``proposer: {name: region_features, path: vatex_val.safetensors, count: null}``.

A frame is a region that covers the whole picture, and the mean of the frames is the video's vector.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heritage_align.data.npy_file import mapped_npy
from heritage_align.data.problems import Problems
from heritage_align.data.region_features import RegionFeatures
from heritage_align.errors import DataError


def read_frame_features(folder: Path | str) -> RegionFeatures:
    """Read all videos of a folder, sorted; a video's id is its file's name without ``.npy``.

    Raises:
        DataError: there is no such folder or no file in it; files are no arrays, of another shape or width, or hold
            numbers that are not finite: the first are named.
    """
    folder = Path(folder)
    paths = sorted(folder.glob("*.npy")) if folder.is_dir() else []
    if not paths:
        raise DataError(f"{folder}: is no folder of .npy files")
    problems = Problems(folder)
    videos: dict[str, NDArray[np.float32]] = {}
    width: int | None = None
    for path in paths:
        try:
            frames = _frames(path, width)
        except ValueError as error:  # DataError is one
            problems.add(path.name, str(error).removeprefix(f"{path}: "))
            continue
        width = frames.shape[1]
        videos[path.stem] = frames
    problems.raise_if_any()
    counts = [len(frames) for frames in videos.values()]
    whole = np.tile(np.array([[0, 0, 1, 1]], dtype=np.float32), (sum(counts), 1))
    values = np.concatenate(list(videos.values()))
    return RegionFeatures(str(folder), tuple(videos), np.cumsum([0, *counts]), values, whole)


def _frames(path: Path, width: int | None) -> NDArray[np.float32]:
    """Return ``(n_frames, dim)``; raises ValueError that says what is wrong with the file."""
    array = mapped_npy(path)
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim != 2 or not all(array.shape) or width not in (None, array.shape[1]):
        raise ValueError(f"has shape {array.shape}, expected (n_frames, {width or 'dim'})")
    if not np.isfinite(array).all():
        raise ValueError("holds numbers that are not finite")
    return array.astype(np.float32)

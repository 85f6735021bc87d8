"""The form of VSE++, SCAN, BFAN and GSMN: a folder with the features and the captions of each split.

``{split}_ims.npy`` is ``(n, regions, dim)``, or ``(n, dim)`` with a vector a picture; ``{split}_caps.txt`` has as many
captions of each picture (five), a line each, in the pictures' order. COCO's development and test sets have each picture
five times in the array: such a group is one picture. ``{split}_ids.txt``, where it is there, names the pictures, a line
each, or each picture once a caption. Ids are ``{split}/{line}``, or ``{split}/{number}`` from 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heritage_align.data.collection import Collection
from heritage_align.data.fields import as_text
from heritage_align.data.lines import numbered_lines
from heritage_align.data.npy_file import mapped_npy
from heritage_align.data.pictures import FilePictures
from heritage_align.data.problems import Problems
from heritage_align.errors import DataError, did_you_mean
from heritage_align.types import TextItem

IMAGES, CAPTIONS, IDS = "_ims.npy", "_caps.txt", "_ids.txt"
_REPEATS = 5


class Pictures(NamedTuple):
    """The pictures of a split: their ids, and ``(n, regions, dim)`` features, mapped."""

    ids: tuple[str, ...]
    features: NDArray[Any]


def precomputed_splits(folder: Path) -> list[str]:
    """Return the splits that have both features and captions, sorted."""
    names = (path.name.removesuffix(IMAGES) for path in folder.glob(f"*{IMAGES}"))
    return sorted(name for name in names if (folder / f"{name}{CAPTIONS}").is_file())


def read_precomputed(
    folder: Path,
    split: str,
    *,
    language: str | None = "en",
    name: str | None = None,
    encoding: str | None = None,
) -> Collection:
    """Read the captions of a split; its pictures are known by their features alone and cannot be opened.

    Args:
        folder: the data set's folder.
        split: ``train``, ``dev``, ``test``.
        language: of the captions.
        name: of the data set; by default the folder's name and the split.
        encoding: of the captions; None finds it out (`data.encodings`) and says a guess on stderr.

    Raises:
        DataError: files are missing or cut off, a caption is blank, or the numbers of pictures and captions do not fit.
    """
    path = folder / f"{split}{CAPTIONS}"
    if not path.is_file():
        found = precomputed_splits(folder)
        hint = f"; splits found: {', '.join(found)}.{did_you_mean(split, found)}" if found else ""
        raise DataError(f"{path}: no such file{hint}")
    problems = Problems(path)
    captions = _captions(path, problems, encoding)
    problems.raise_if_any()
    ids = read_pictures(folder / f"{split}{IMAGES}", len(captions)).ids
    each = len(captions) // len(ids) if ids else 0
    items = [
        TextItem(f"{ids[row // each]}#{row % each}", text, (ids[row // each],), language=language)
        for row, text in enumerate(captions)
    ]
    files = FilePictures({image_id: folder / image_id for image_id in ids})
    return Collection(name or f"{folder.resolve().name}/{split}", files, items, require_pictures=False)


def read_pictures(path: Path, captions: int | None = None) -> Pictures:
    """Map the features of a split and name its pictures.

    Args:
        path: ``{split}_ims.npy``.
        captions: how many there are; None counts the lines of ``{split}_caps.txt``, where that is there.

    Raises:
        DataError: see `read_precomputed`.
    """
    array = mapped_npy(path)
    if array.ndim == 2:
        array = array[:, None, :]
    if array.ndim != 3 or not all(array.shape):
        raise DataError(f"{path}: has shape {array.shape}, expected (pictures, regions, dim) or (pictures, dim)")
    split = path.name.removesuffix(IMAGES)
    beside = path.with_name(f"{split}{CAPTIONS}")
    if captions is None and beside.is_file():
        captions = len(_captions(beside, Problems(beside), None, quiet=True))
    if captions is not None:
        if captions == len(array) and _each_is_repeated(array):
            array = array[::_REPEATS]
        if not captions or captions % len(array):
            raise DataError(
                f"{path}: has {len(array)} pictures, {beside.name} {captions} captions: not as many of each"
            )
    return Pictures(tuple(f"{split}/{own}" for own in _own_ids(path.with_name(f"{split}{IDS}"), len(array))), array)


def _captions(path: Path, problems: Problems, encoding: str | None, *, quiet: bool = False) -> list[str]:
    found = []
    for number, line in numbered_lines(path, problems, encoding, quiet=quiet):
        try:
            found.append(as_text(line))
        except ValueError as error:
            problems.add(f"{path}:{number}", f"caption {error}")
    return found


def _each_is_repeated(array: NDArray[Any]) -> bool:
    """Tell whether the array has each picture five times in succession, by the first region of each."""
    if len(array) % _REPEATS:
        return False
    first = array[::_REPEATS, 0]
    return all(np.array_equal(first, array[shift::_REPEATS, 0]) for shift in range(1, _REPEATS))


def _own_ids(path: Path, count: int) -> list[str]:
    """Return the ids of `count` pictures out of a file of ids, or their numbers where it does not name each once."""
    numbers = list(map(str, range(count)))
    if not path.is_file():
        return numbers
    lines = [line.strip() for _, line in numbered_lines(path, Problems(path), quiet=True)]
    if len(lines) % count or not all(lines):
        return numbers
    each = len(lines) // count
    ids = lines[::each] if each else []
    alike = all(lines[row] == ids[row // each] for row in range(len(lines)))
    return ids if alike and len(set(ids)) == count else numbers

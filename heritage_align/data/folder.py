"""A folder of pictures without texts: what there is to search before anybody has described it."""

from __future__ import annotations

import warnings
from pathlib import Path

from heritage_align.data.collection import Collection
from heritage_align.data.pictures import FilePictures, describe_passed_over, walk_pictures
from heritage_align.data.problems import Problems
from heritage_align.errors import DataError, Note


def read_folder(folder: Path, *, name: str | None = None) -> Collection:
    """Read every picture below a folder; ids are the relative paths (``silk/001.jpg``), in the order of
    names.

    Args:
        folder: is searched with its subfolders; names that begin with a dot are skipped; RAW files and forms that are
            not read are counted in a warning of category `Note`.
        name: of the data set; by default the folder's.

    Raises:
        DataError: no such folder, no pictures in it, or a file name that is not UTF-8.
    """
    problems = Problems(folder)
    files: dict[str, Path] = {}
    others: list[str] = []
    for relative, file in walk_pictures(folder, others):
        try:
            relative.encode("utf-8")
        except UnicodeEncodeError:
            problems.add(repr(str(file)), "has a name that is not UTF-8, so it cannot be an id; rename it")
            continue
        files[relative] = file
    problems.raise_if_any()
    told = describe_passed_over(others)
    if told and not files:
        raise DataError(f"{folder}: has no pictures that can be read: {told}")
    if not files and (splits := _packed_splits(folder)):
        raise DataError(
            f"{folder}: has no picture files, but packed ones (TSV, LMDB) of {', '.join(splits)}: name the data set "
            "that reads them in a config, with its split (docs/data.md)"
        )
    if told:
        warnings.warn(f"{folder}: {told}", Note, stacklevel=2)
    return Collection(name or folder.resolve().name, FilePictures(files))


def _packed_splits(folder: Path) -> list[str]:
    """Return the splits whose pictures a folder has as Chinese-CLIP packs them."""
    packed = {path.name.removesuffix("_imgs.tsv").removeprefix("MR_") for path in folder.glob("*_imgs.tsv")}
    packed |= {path.parent.parent.name for path in folder.glob("lmdb/*/imgs/data.mdb")}
    return sorted(packed)

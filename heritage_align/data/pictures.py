"""Where the pictures of a collection are: files below a folder. Other homes (TSV, LMDB) are in their own
modules."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol

from heritage_align.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".jp2", ".avif", ".ppm"})
"""File name endings, in lower case, that count as a picture where a folder is listed."""


class Pictures(Protocol):
    """Encoded pictures by id; reading one is safe from several threads."""

    ids: tuple[str, ...]

    def read(self, image_id: str) -> Path | bytes:
        """Return the picture's file or its encoded bytes; raises KeyError for an unknown id and ImageError
        for one that cannot be read."""

    def place(self, image_id: str) -> str:
        """Say where the picture is, for messages."""


class FilePictures:
    """Pictures that are files; whether they exist is found out when one is read.

    Args:
        files: id -> file, in the collection's order.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)
        self.ids = tuple(self._files)

    def read(self, image_id: str) -> Path:
        """Return the picture's file."""
        return self._files[image_id]

    def place(self, image_id: str) -> str:
        """Return the file's path."""
        return str(self._files[image_id])

    def require_one(self) -> None:
        """Raise DataError if not a single file exists; stops at the first that does, so that a sound
        collection costs one look at the disk."""
        if self._files and not any(path.is_file() for path in self._files.values()):
            first = next(iter(self._files.values()))
            raise DataError(f"none of the {len(self._files)} pictures exists; the first would be {first}")


def path_below(root: Path, relative: str) -> tuple[str, Path]:
    """Join a path that a data file names to the folder that it is relative to.

    The check is on the words of the path: a symbolic link that leads out of the folder is somebody's
    intention.

    Args:
        root: the folder.
        relative: ``/`` or ``\\`` between names.

    Returns:
        The path in its normal form (``a//./b`` becomes ``a/b``), which serves as the picture's id, and the
        file.

    Raises:
        ValueError: an absolute path, or one that climbs out of the folder.
    """
    if "\0" in relative:
        raise ValueError(f"{relative!r} holds a NUL character, which no file name can")
    posix = relative.replace("\\", "/")
    if PurePosixPath(posix).is_absolute() or (len(posix) > 1 and posix[1] == ":"):
        raise ValueError(f"{relative!r} is an absolute path; it must be relative to {root}")
    normal = os.path.normpath(posix).replace(os.sep, "/")
    if normal == ".." or normal.startswith("../"):
        raise ValueError(f"{relative!r} leads out of {root}; set the pictures' folder to one that holds them all")
    if normal == ".":
        raise ValueError(f"{relative!r} names no file")
    return normal, root / normal


def walk_pictures(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield ``(relative path with slashes, file)`` of every picture below a folder, in the order of their
    names.

    Names that begin with a dot are skipped (``._a.jpg`` is a file system's note, not a picture), links to
    folders are not followed.

    Raises:
        DataError: not a folder, or not to be listed.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is not a folder' if folder.exists() else 'no such folder'}")

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}") from error

    for parent, folders, names in os.walk(folder, onerror=fail):
        # os.walk goes down in the order that is left here.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                file = Path(parent, name)
                yield file.relative_to(folder).as_posix(), file

"""Where the pictures of a collection are: files below a folder. Other homes (TSV, LMDB) are in their own
modules."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Protocol
from urllib.parse import unquote

from heritage_align.data.limits import OTHER_SUFFIXES, RAW_SUFFIXES, SUFFIXES
from heritage_align.errors import DataError, ImageError

_DRIVE = re.compile(r"[A-Za-z]:")
_UNSEEN = "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
"""Marks of direction and of width 0."""

NO_FOLDERS = frozenset({"@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__macosx"})
"""Folders, in lower case, of which no picture is the collection's: a Synology server keeps thumbnails in ``@eaDir``."""

_SEEN = str.maketrans("", "", _UNSEEN)
_DEEPEST = 128
"""Folders in folders in which a file of nearly the same name is looked for."""


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

    A file that is not there is looked for under names that differ in Unicode form (macOS writes é in two characters),
    in marks that nobody sees or in case alone.

    Args:
        files: id -> file, in the collection's order.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)
        self._names = FileNames()
        self.ids = tuple(self._files)

    def read(self, image_id: str) -> Path:
        """Return the picture's file; raises ImageError where several differ from its name in case alone."""
        return self._names.find(self._files[image_id])

    def place(self, image_id: str) -> str:
        """Return the file's path."""
        return str(self._files[image_id])

    def require_one(self) -> None:
        """Raise DataError if not a single file exists; stops at the first that does, so that a sound
        collection costs one look at the disk."""
        if self._files and not any(self._names.exists(path) for path in self._files.values()):
            first = next(iter(self._files.values()))
            raise DataError(
                f"none of the {len(self._files)} pictures exists; the first would be {first}; "
                "the setting `images` names the folder that they are in (--set data.images=FOLDER)"
            )


class FileNames:
    """Finds files whose names differ from those asked for in Unicode form or case alone; for several threads at once.

    A folder is listed once, when a name in it is first missed.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[str]]] = {}
        self._lock = Lock()

    def exists(self, path: Path) -> bool:
        """Say whether a file is there, under this name or one that is nearly the same."""
        try:
            return self.find(path).is_file()
        except ImageError:  # several are
            return True
        except OSError:  # a name that is too long for a file
            return False

    def find(self, path: Path) -> Path:
        """Return the file as it is called on the disk, the path itself where none is like it.

        Raises:
            ImageError: several files differ from the name in case alone, and none is exactly it.
        """
        if _is_there(path) or path.name in ("", "..") or len(path.parts) > _DEEPEST:
            return path
        parent = self.find(path.parent) if path.parent != path else path
        alike = self._listed(parent).get(_plain_name(path.name), [])
        composed = unicodedata.normalize("NFC", path.name)
        same = [name for name in alike if unicodedata.normalize("NFC", name) == composed] or alike
        if len(same) > 1:
            raise ImageError(f"{path}: no such file, and several that are called nearly so: {', '.join(sorted(same))}")
        return parent / same[0] if same else path

    def _listed(self, folder: Path) -> dict[str, list[str]]:
        with self._lock:
            found = self._folders.get(folder)
            if found is None:
                found = {}
                try:
                    for name in os.listdir(folder):
                        found.setdefault(_plain_name(name), []).append(name)
                except (OSError, ValueError):  # no such folder, or a NUL in its name: who reads the file says so
                    found = {}
                self._folders[folder] = found
            return found


class SameFiles:
    """Tells names of one file that differ in Unicode form or case: on Windows a table may write one in several ways."""

    def __init__(self) -> None:
        self._names = FileNames()
        self._seen: dict[str, dict[str, Path]] = {}

    def first(self, image_id: str, file: Path) -> str:
        """Return the first id that was asked for whose file this is: the id itself, where it is another's."""
        alike = self._seen.setdefault(_plain_name(image_id), {})
        if alike and image_id not in alike:
            there = self._found(file)
            for other, its in alike.items():
                if there is not None and self._found(its) == there:
                    return other
        alike[image_id] = file
        return image_id

    def _found(self, file: Path) -> Path | None:
        try:
            return self._names.find(file)
        except ImageError:
            return None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have: who reads it says so
        return True


def _plain_name(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.translate(_SEEN)).casefold())


def path_below(root: Path, named: str, *, prefix: str | None = None) -> tuple[str, Path]:
    """Join a path that a data file names to the folder that it is relative to.

    The check is on the words of the path: a symbolic link that leads out of the folder is somebody's
    intention.

    Args:
        root: the folder.
        named: ``/`` or ``\\`` between names; relative, or an absolute path or ``file:`` address below `root`.
        prefix: a beginning of the paths that stands for `root`, for example ``D:\\museum``; it is cut off.

    Returns:
        The path in its normal form (``a//./b`` becomes ``a/b``), which serves as the picture's id, and the
        file.

    Raises:
        ValueError: a path that leads out of the folder, or an address; the message says which setting helps.
    """
    if "\0" in named:
        raise ValueError(f"{named!r} holds a NUL character, which no file name can")
    posix = _bare(named).replace("\\", "/")
    if prefix is not None and prefix.strip():
        start = prefix.replace("\\", "/").rstrip("/").casefold()
        ends = (at for at in range(len(start) + 1) if posix[at : at + 1] in ("/", ""))
        end = next((at for at in ends if posix[:at].casefold() == start), 0)  # folding may make it longer (ß)
        posix = posix[end:].lstrip("/") if end else posix
    if posix.casefold().startswith("file:"):
        posix = path_of_address(posix)
    elif "://" in posix:
        raise ValueError(
            f"{named!r} is an address, not a file below {root}; where the pictures are there already, set data.prefix "
            "to the beginning that stands for this folder; a IIIF manifest is read by data set iiif"
        )
    if _DRIVE.match(posix) or posix.startswith("//"):
        raise ValueError(
            f"{named!r} is an absolute path of another computer; set data.prefix to the beginning that stands for "
            f"{root}: --set 'data.prefix={_beginning(root, posix)}'"
        )
    if PurePosixPath(posix).is_absolute():
        posix = _below(root, posix, named)
    normal = os.path.normpath(posix).replace(os.sep, "/")
    if normal == ".." or normal.startswith("../"):
        raise ValueError(f"{named!r} leads out of {root}; set data.images to a folder that holds them all")
    if normal == ".":
        raise ValueError(f"{named!r} names no file")
    return normal, root / normal


def _bare(named: str) -> str:
    """Return a path without what Windows leaves around one that is copied: marks that nobody sees, quotes."""
    path = named.strip(_UNSEEN)
    if len(path) > 2 and path.startswith('"') and path.endswith('"'):
        path = path[1:-1].strip()
    return path or named


def path_of_address(address: str) -> str:
    """Return the path of a ``file:`` address; one of another computer begins with ``//``, one with a drive with it."""
    rest = address.partition(":")[2]
    computer, path = ("", rest) if not rest.startswith("//") else (rest[2:].partition("/")[0], rest[2:])
    path = path[len(computer) :]
    if computer and computer.casefold() != "localhost":
        return unquote(f"//{computer}{path}")
    return unquote(path[1:] if re.match(r"/[A-Za-z]:", path) else path)


def _beginning(root: Path, posix: str) -> str:
    """Return the beginning of a path after which the rest is a file below a folder, or its folder."""
    parts = posix.split("/")
    for count in range(1, min(len(parts), _DEEPEST)):
        if _is_there(root.joinpath(*parts[count:])):
            return "/".join(parts[:count])
    return posix.rpartition("/")[0]


def _below(root: Path, absolute: str, named: str) -> str:
    """Return an absolute path as one relative to a folder that it is in."""
    path = os.path.normpath(absolute)
    for folder in (os.path.abspath(root), os.path.realpath(root)):
        if os.path.commonpath([folder, path]) == folder:
            return os.path.relpath(path, folder)
    raise ValueError(f"{named!r} is an absolute path outside of {root}; set data.images to a folder that holds all")


def walk_pictures(folder: Path, passed_over: list[str] | None = None) -> Iterator[tuple[str, Path]]:
    """Yield ``(relative path with slashes, file)`` of every picture below a folder, in the order of their
    names.

    Names that begin with a dot are skipped (``._a.jpg`` is a file system's note, not a picture), and so are folders
    that systems keep for themselves (`NO_FOLDERS`); links to folders are not followed.

    Args:
        folder: where to look.
        passed_over: gets the relative paths of RAW files and pictures of other forms that are not read.

    Raises:
        DataError: not a folder, or not to be listed.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is not a folder' if folder.exists() else 'no such folder'}")

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}") from error

    for parent, folders, names in os.walk(folder, onerror=fail):
        # os.walk goes down in the order that is left here.
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name.casefold() not in NO_FOLDERS)
        for name in sorted(names):
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            file = Path(parent, name)
            relative = file.relative_to(folder).as_posix()
            if suffix in SUFFIXES:
                yield relative, file
            elif passed_over is not None and suffix in RAW_SUFFIXES | OTHER_SUFFIXES:
                passed_over.append(relative)


def describe_passed_over(names: list[str]) -> str:
    """Say how many files were passed over, of which kinds, and what to do; ``""`` for none."""
    raw = [name for name in names if Path(name).suffix.lower() in RAW_SUFFIXES]
    rest = [name for name in names if name not in set(raw)]
    said = []
    if raw:
        said.append(f"{_counted(raw, 'RAW file')} passed over ({_some(raw)}); develop them to TIFF or JPEG")
    if rest:
        kinds = ", ".join(sorted({Path(name).suffix.lower() for name in rest}))
        said.append(f"{_counted(rest, 'file')} of {kinds} passed over ({_some(rest)}); save them as TIFF, PNG or JPEG")
    return ". ".join(said)


def _counted(names: list[str], what: str) -> str:
    return f"{len(names)} {what}{'s' if len(names) != 1 else ''}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")

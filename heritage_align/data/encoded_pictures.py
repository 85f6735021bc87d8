"""Pictures inside the files of Chinese-CLIP: a TSV or an LMDB of base64 text, read one by one, never as a
whole."""

from __future__ import annotations

import base64
import binascii
import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heritage_align.data.problems import Problems
from heritage_align.errors import DataError, ImageError, MissingDependency

if TYPE_CHECKING:
    from types import ModuleType

_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_COUNT_KEYS = (b"num_images", b"num_samples")


def decode_base64(data: bytes) -> bytes:
    """Decode standard or URL-safe base64, with or without padding.

    Chinese-CLIP's own reader takes the URL-safe alphabet and silently drops ``+`` and ``/``, which ruins a
    picture written in the standard one.

    Raises:
        ValueError: a character outside both alphabets, or a length that no base64 text has.
    """
    text = data.strip().translate(_URL_SAFE).rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"is not base64: {error}") from error


class TsvPictures:
    """``{split}_imgs.tsv`` of Chinese-CLIP: ``image id <TAB> base64 picture`` a line.

    Opening reads the ids and remembers where each picture begins (16 bytes a picture and the id); the
    pictures themselves are read from disk when they are asked for.

    Raises:
        DataError: the file cannot be read; a line without a tab, a blank or repeated id, an empty picture.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spans = _index_tsv(path)
        self.ids = tuple(self._spans)

    def read(self, image_id: str) -> bytes:
        """Return the encoded picture; raises ImageError where it is not base64."""
        begin, length = self._spans[image_id]
        with self._path.open("rb") as stream:
            stream.seek(begin)
            data = stream.read(length)
        return _picture(data, self.place(image_id))

    def place(self, image_id: str) -> str:
        """Return ``file, image 'id'``."""
        return f"{self._path}, image {image_id!r}"


def _index_tsv(path: Path) -> dict[str, tuple[int, int]]:
    """Return id -> (first byte, number of bytes) of every picture."""
    problems = Problems(path)
    spans: dict[str, tuple[int, int]] = {}
    try:
        with path.open("rb") as stream:
            if path.stat().st_size == 0:  # mmap refuses an empty file
                return spans
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
                _index_lines(view, path, spans, problems)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    problems.raise_if_any()
    return spans


def _index_lines(view: mmap.mmap, path: Path, spans: dict[str, tuple[int, int]], problems: Problems) -> None:
    begin, number, size = 0, 0, len(view)
    while begin < size:
        number += 1
        end = view.find(b"\n", begin)
        end = size if end < 0 else end
        tab = view.find(b"\t", begin, end)
        place = f"{path}:{number}"
        if tab < 0:
            if view[begin : min(end, begin + 80)].strip():
                problems.add(place, "has no tab between image id and picture")
        elif not (raw := view[begin:tab]).strip():
            problems.add(place, "has an empty image id")
        elif not view[tab + 1 : min(end, tab + 80)].strip():
            problems.add(place, f"image {raw!r} is empty")
        else:
            try:
                image_id = raw.decode("utf-8")
            except UnicodeDecodeError:
                problems.add(place, f"image id {raw!r} is not UTF-8")
            else:
                if image_id in spans:
                    problems.add(place, f"image id {image_id!r} was already used on an earlier line")
                spans.setdefault(image_id, (tab + 1, end - tab - 1))
        begin = end + 1


class LmdbPictures:
    """``lmdb/{split}/imgs`` of Chinese-CLIP: key ``image id``, value base64 picture, and ``num_images``.

    Raises:
        DataError: not an LMDB, an id that is not UTF-8, or fewer pictures than ``num_images`` says (a copy
            that was cut off).
        MissingDependency: the package lmdb is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._environment = open_lmdb(path)
        ids = []
        with self._environment.begin() as transaction:
            for key in transaction.cursor().iternext(keys=True, values=False):
                if key in _COUNT_KEYS:
                    continue
                try:
                    ids.append(key.decode("utf-8"))
                except UnicodeDecodeError:
                    raise DataError(f"{path}: image id {key!r} is not UTF-8") from None
            declared = transaction.get(b"num_images")
        # LMDB keeps its keys as bytes in byte order: 1, 10, 2. Numbers go first and in their own order.
        self.ids = tuple(sorted(ids, key=lambda i: (not i.isdecimal(), int(i) if i.isdecimal() else 0, i)))
        if declared is not None and declared.strip() != str(len(ids)).encode():
            raise DataError(
                f"{path}: holds {len(ids)} pictures, its num_images says {declared.decode(errors='replace')}"
            )

    def read(self, image_id: str) -> bytes:
        """Return the encoded picture; raises ImageError where it is not base64."""
        with self._environment.begin(buffers=False) as transaction:
            data = transaction.get(image_id.encode("utf-8"))
        if data is None:
            raise KeyError(image_id)
        return _picture(data, self.place(image_id))

    def place(self, image_id: str) -> str:
        """Return ``folder, image 'id'``."""
        return f"{self._path}, image {image_id!r}"


def _picture(data: bytes, place: str) -> bytes:
    try:
        return decode_base64(data)
    except ValueError as error:
        raise ImageError(f"{place}: {error}") from error


def open_lmdb(path: Path) -> Any:
    """Open an LMDB folder for reading, without a lock file (the medium may be read-only).

    Returns:
        An ``lmdb.Environment``; read transactions of it may run in several threads.

    Raises:
        DataError: the folder holds no LMDB.
        MissingDependency: the package lmdb is not installed.
    """
    lmdb = _import_lmdb()
    try:
        return lmdb.open(str(path), readonly=True, lock=False, create=False, readahead=False)
    except lmdb.Error as error:
        raise DataError(f"{path}: cannot be opened as an LMDB: {error}") from error


def _import_lmdb() -> ModuleType:
    try:
        import lmdb
    except ImportError as error:
        raise MissingDependency("reading an LMDB needs the package lmdb: pip install 'heritage-align[lmdb]'") from error
    module: ModuleType = lmdb
    return module

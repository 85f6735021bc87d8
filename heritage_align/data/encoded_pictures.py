"""Pictures inside the files of Chinese-CLIP: a TSV or an LMDB of base64 text, read one by one, never as a
whole."""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from heritage_align.data.lmdb_file import LmdbFile
from heritage_align.data.problems import Problems
from heritage_align.data.spans import FileSpans
from heritage_align.errors import DataError, ImageError

_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_COUNT_KEYS = (b"num_images", b"num_samples")
_HEAD = 2**16  # bytes of a TSV's line that are looked at: an id is far shorter


def decode_base64(data: bytes) -> bytes:
    """Decode standard or URL-safe base64, with or without padding, in one line or in several.

    Chinese-CLIP's own reader takes the URL-safe alphabet and silently drops ``+`` and ``/``, which ruins a
    picture written in the standard one.

    Raises:
        ValueError: a character outside both alphabets, or a length that no base64 text has.
    """
    text = data.translate(_URL_SAFE, b"\r\n").strip().rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"is not base64, as Chinese-CLIP's pictures are: {error}") from error


class TsvPictures:
    """``{split}_imgs.tsv`` of Chinese-CLIP: ``image id <TAB> base64 picture`` a line.

    Opening reads the ids and remembers where each picture begins; the pictures themselves are read from disk when
    they are asked for.

    Raises:
        DataError: the file cannot be read; a line without a tab, a blank or repeated id, an empty picture.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = FileSpans(path)
        self._spans = _index_tsv(self._file)
        self.ids = tuple(self._spans)

    def read(self, image_id: str) -> bytes:
        """Return the encoded picture; raises ImageError where it is not base64, or the file was changed."""
        begin, length = self._spans[image_id]
        return _picture(lambda: self._file.read(begin, length), self.place(image_id))

    def place(self, image_id: str) -> str:
        """Return ``file, image 'id'``."""
        return f"{self._path}, image {image_id!r}"


def _index_tsv(spans: FileSpans) -> dict[str, tuple[int, int]]:
    """Return id -> (first byte, number of bytes) of every picture."""
    path, begin = spans.path, 0
    problems = Problems(path)
    found: dict[str, tuple[int, int]] = {}
    try:
        with path.open("rb") as stream:
            for number in itertools.count(1):
                head, rest = _line(stream)
                if not head:
                    break
                _add_picture(found, problems, f"{path}:{number}", head, begin, begin + len(head) + rest)
                begin += len(head) + rest
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    problems.raise_if_any()
    return found


def _line(stream: BinaryIO) -> tuple[bytes, int]:
    """Return the head of the next line, with its ending where it is short, and the number of bytes behind it.

    The rest of a line is read in pieces and let go: one picture may be larger than all ids.
    """
    head = piece = stream.readline(_HEAD)
    rest = 0
    while len(piece) == _HEAD and not piece.endswith(b"\n"):
        piece = stream.readline(_HEAD)
        rest += len(piece)
    return head, rest


def _add_picture(
    found: dict[str, tuple[int, int]], problems: Problems, place: str, head: bytes, begin: int, end: int
) -> None:
    """Note the picture of a line that goes from byte `begin` to before `end`; `head` is its beginning."""
    raw, tab, data = head.partition(b"\t")
    if not tab:
        if head.strip():
            problems.add(place, "has no tab between image id and picture")
    elif not raw.strip():
        problems.add(place, "has an empty image id")
    elif not data.strip():
        problems.add(place, f"image {raw!r} is empty")
    else:
        try:
            image_id = raw.decode("utf-8")
        except UnicodeDecodeError:
            problems.add(place, f"image id {raw!r} is not UTF-8")
            return
        if image_id in found:
            problems.add(place, f"image id {image_id!r} was already used on an earlier line")
        first = begin + len(raw) + 1
        found.setdefault(image_id, (first, end - first))


def _numbers_first(image_id: str) -> tuple[bool, int, str]:
    number = image_id.isdecimal() and len(image_id) < 20  # Python makes no number of 4301 digits
    return not number, int(image_id) if number else 0, image_id


class LmdbPictures:
    """``lmdb/{split}/imgs`` of Chinese-CLIP: key ``image id``, value base64 picture, and ``num_images``.

    Raises:
        DataError: not an LMDB, one that is cut off or damaged, an id that is not UTF-8, or fewer pictures than
            ``num_images`` says.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = LmdbFile(path)
        ids = []
        for key in self._file:
            if key in _COUNT_KEYS:
                continue
            try:
                ids.append(key.decode("utf-8"))
            except UnicodeDecodeError:
                raise DataError(f"{path}: image id {key!r} is not UTF-8") from None
        declared = self._file.get(b"num_images")
        # LMDB keeps its keys as bytes in byte order: 1, 10, 2. Numbers go first and in their own order.
        self.ids = tuple(sorted(ids, key=_numbers_first))
        if declared is not None and declared.strip() != str(len(ids)).encode():
            raise DataError(
                f"{path}: holds {len(ids)} pictures, its num_images says {declared.decode(errors='replace')}"
            )

    def read(self, image_id: str) -> bytes:
        """Return the encoded picture; raises ImageError where it is not base64, or the file was changed."""
        key = image_id.encode("utf-8")
        if key not in self._file:
            raise KeyError(image_id)
        return _picture(lambda: self._file.get(key) or b"", self.place(image_id))

    def place(self, image_id: str) -> str:
        """Return ``folder, image 'id'``."""
        return f"{self._path}, image {image_id!r}"


def _picture(read: Callable[[], bytes], place: str) -> bytes:
    try:
        return decode_base64(read())
    except ValueError as error:  # DataError is one
        raise ImageError(f"{place}: {error}") from error

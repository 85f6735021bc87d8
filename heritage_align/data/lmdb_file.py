"""Read an LMDB without mapping it: what is damaged or cut off is an error here.

The library maps the file and trusts it. A copy that was cut off ends the process with SIGBUS when a missing page is
touched, a damaged page with SIGSEGV, and the number of the last page tells nothing: a sound file may end before it, as
pages that were taken and given back in one transaction are never written (5 of 30 commits of a random history). So the
pages are walked once from the root, as LMDB 0.9 lays them out (``mdb.c``: ``MDB_meta``, ``MDB_page``, ``MDB_node``),
and every value's place is known before it is read. 100,000 entries take 0.4 s.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from heritage_align.data.spans import FileSpans
from heritage_align.errors import DataError
from heritage_align.foreign_files import foreign

_HEAD = struct.Struct("<QHHHH")  # page number, unused, flags, lower, upper; of an overflow page lower is its count
_META = struct.Struct("<IIQQ")  # magic, version, address, map size; two databases and the last page follow
_DATABASE = struct.Struct("<IHHQQQQQ")  # page size or 0, flags, depth, three counts of pages, entries, root
_TAIL = struct.Struct("<QQ")  # last page, transaction
_NODE = struct.Struct("<HHHH")  # size or page number, low and high, flags, bytes of the key
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 1, 2, 4, 8
_ELSEWHERE = 1  # a value on pages of its own
_NO_PAGE = 2**64 - 1
_PAGE_SIZES = tuple(2**power for power in range(8, 17))


class _Place(NamedTuple):
    """Where a value is: its first byte, or that of its pages' header, and its number of bytes."""

    begin: int
    size: int
    elsewhere: bool


def is_lmdb(file: Path) -> bool:
    """Tell whether a file begins as the ``data.mdb`` of an LMDB does; raises OSError."""
    with file.open("rb") as stream:
        head = stream.read(_HEAD.size + _META.size)
    return len(head) == _HEAD.size + _META.size and _META.unpack_from(head, _HEAD.size)[0] == _MAGIC


class LmdbFile:
    """The entries of an LMDB folder: keys in byte order, values read when they are asked for. Safe in threads.

    Keys and the values' places are kept in memory, some 200 bytes an entry.

    Args:
        folder: with ``data.mdb``.

    Raises:
        DataError: no LMDB of this machine's kind, one that is cut off or damaged: names the page and the bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        file = folder / "data.mdb"
        if not file.is_file():
            raise DataError(f"{folder}: cannot be opened as an LMDB: there is no data.mdb in it")
        try:
            instead = foreign(file)
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
        if instead is not None:
            raise DataError(f"{folder}: cannot be opened as an LMDB: data.mdb {instead}")
        self._spans = FileSpans(file)
        with self._spans.opened() as self._read:
            self._page, root, entries = self._newest()
            self._places = dict(self._entries(root)) if root != _NO_PAGE else {}
        if len(self._places) != entries:
            raise self._damaged(f"holds {len(self._places)} entries, its header says {entries}")

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: bytes) -> bytes | None:
        """Return a value, None for an unknown key; raises DataError where the file was changed since it was opened."""
        if key not in self._places:
            return None
        begin, size, elsewhere = self._places[key]
        if not elsewhere:
            return self._spans.read(begin, size)
        data = self._spans.read(begin, _HEAD.size + size)
        number, _, flags, low, high = _HEAD.unpack_from(data)
        if number * self._page != begin or flags != _OVERFLOW or (low | high << 16) * self._page < len(data):
            raise self._damaged(f"is damaged: page {begin // self._page} does not hold the value of {key!r}")
        return data[_HEAD.size :]

    def _newest(self) -> tuple[int, int, int]:
        """Return page size, root and number of entries as of the newest of the two headers."""
        first = self._header(0)
        page = first[1]
        newest = max(first, self._header(page))
        return page, newest[2], newest[3]

    def _header(self, begin: int) -> tuple[int, int, int, int]:
        """Return transaction, page size, root, entries."""
        length = _HEAD.size + _META.size + 2 * _DATABASE.size + _TAIL.size
        if begin + length > self._spans.size:
            raise self._damaged(f"is cut off: it has {self._spans.size} bytes, its two headers need more")
        data = self._read(begin, length)
        flags = _HEAD.unpack_from(data)[2]
        magic, version, *_ = _META.unpack_from(data, _HEAD.size)
        if magic != _MAGIC or not flags & _META_PAGE:
            raise self._damaged("is no LMDB of this kind of machine (64 bits, little-endian)")
        if version != _VERSION:
            raise self._damaged(f"is of LMDB's format {version}, only {_VERSION} is read")
        at = _HEAD.size + _META.size
        page = _DATABASE.unpack_from(data, at)[0]
        _, kind, _, _, _, _, entries, root = _DATABASE.unpack_from(data, at + _DATABASE.size)
        if page not in _PAGE_SIZES:
            raise self._damaged(f"is damaged: a page of {page} bytes")
        if kind:
            raise self._damaged(f"is no plain LMDB (flags {kind:#x}): keys with several values are not read")
        return _TAIL.unpack_from(data, at + 2 * _DATABASE.size)[1], page, root, entries

    def _entries(self, root: int) -> Iterator[tuple[bytes, _Place]]:
        """Yield keys and places of values in order."""
        waiting = [root]
        seen: set[int] = set()
        while waiting:
            number = waiting.pop()
            if number in seen:
                raise self._damaged(f"is damaged: page {number} is reached twice")
            seen.add(number)
            data, flags, lower = self._node_page(number)
            below = []
            for position in range(_HEAD.size, lower, 2):
                (at,) = struct.unpack_from("<H", data, position)
                if not lower <= at <= self._page - _NODE.size:
                    raise self._damaged(f"is damaged: page {number} points outside itself")
                low, high, bits, length = _NODE.unpack_from(data, at)
                key = data[at + _NODE.size : at + _NODE.size + length]
                begin = at + _NODE.size + length
                if flags & _BRANCH:
                    below.append(low | high << 16 | bits << 32)
                    continue
                size = low | high << 16
                if bits & ~_ELSEWHERE:
                    raise self._damaged(f"holds a database of its own under {key!r}, which is not read")
                if begin + (8 if bits else size) > self._page:
                    raise self._damaged(f"is damaged: an entry of page {number} does not fit it")
                if bits:
                    (own,) = struct.unpack_from("<Q", data, begin)
                    self._reaches(own, own * self._page + _HEAD.size + size)
                    yield key, _Place(own * self._page, size, True)
                else:
                    yield key, _Place(number * self._page + begin, size, False)
            waiting += reversed(below)

    def _node_page(self, number: int) -> tuple[bytes, int, int]:
        """Return a page of the tree, its flags, and the end of its list of nodes."""
        self._reaches(number, (number + 1) * self._page)
        data = self._read(number * self._page, self._page)
        own, _, flags, lower, _ = _HEAD.unpack_from(data)
        if own != number or flags not in (_BRANCH, _LEAF) or not _HEAD.size <= lower <= self._page or lower % 2:
            raise self._damaged(f"is damaged: page {number} is none of the tree")
        return data, flags, lower

    def _reaches(self, number: int, end: int) -> None:
        if end > self._spans.size:
            raise self._damaged(
                f"is cut off: it has {self._spans.size} bytes, page {number} of {self._page} bytes needs {end}; "
                "copy or build it again"
            )

    def _damaged(self, problem: str) -> DataError:
        return DataError(f"{self.path}: cannot be opened as an LMDB: data.mdb {problem}")

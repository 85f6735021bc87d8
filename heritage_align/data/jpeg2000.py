"""What Pillow does not read from the head of a JPEG 2000 file: its ICC profile and the number of its levels.

ISO/IEC 15444-1, annex A (codestream) and I (boxes).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

_CODESTREAM = b"\xff\x4f\xff\x51"
_CODING_STYLE = 0xFF52
_TILE = 0xFF90
_RESTRICTED, _ANY = 2, 3  # methods of a colour box that hold a profile
_HEAD = 2**24  # bytes that are looked at: profiles and comments of a main header are far shorter


def levels(stream: IO[bytes]) -> int:
    """Return how many times the size can be halved while decoding; 0 where the file does not say."""
    data = _head(stream)
    at = data.find(_CODESTREAM) + 2
    while 2 <= at <= len(data) - 4:
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _CODING_STYLE and at + 9 < len(data):
            return min(data[at + 9], 32)
        if marker == _TILE or length < 2:
            break
        at += 2 + length
    return 0


def icc_profile(stream: IO[bytes]) -> bytes | None:
    """Return the profile of a JP2 or JPX file, None where it names its colours in another way."""
    data = _head(stream)
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"jp2h":
            for inner, begin, stop in _boxes(data, start, end):
                if inner == b"colr" and stop - begin > 3 and data[begin] in (_RESTRICTED, _ANY):
                    return data[begin + 3 : stop]
    return None


def _head(stream: IO[bytes]) -> bytes:
    place = stream.tell()
    stream.seek(0)
    data = stream.read(_HEAD)
    stream.seek(place)
    return data


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, begin and end of the contents of each box."""
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, at)
        begin = at + 8
        if length == 1 and at + 16 <= end:
            (length,) = struct.unpack_from(">Q", data, begin)
            begin = at + 16
        stop = end if length == 0 else at + length
        if stop < begin:
            return
        yield kind, begin, min(stop, end)
        at = stop

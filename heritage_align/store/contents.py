"""What pictures hold, as digests of their files: how an update of a store finds those that changed."""

from __future__ import annotations

import errno
import hashlib
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from heritage_align.errors import ImageError

if TYPE_CHECKING:
    from heritage_align.encoding.sources import ImageSource

Content = bytes
"""BLAKE2b of a picture's file, 16 bytes."""

CONTENT_BYTES = 16
NO_FILE: Content = hashlib.blake2b(digest_size=CONTENT_BYTES, person=b"no file").digest()
"""Stands for the content of a picture that the collection names and of which there is no file."""

_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_PIECE = 2**20


def contents_of(sources: Sequence[ImageSource], workers: int) -> list[Content | None]:
    """Return the digest of each picture's file, `NO_FILE` where there is none (a folder and a named pipe are none).

    None for a picture that is no file of its own or cannot be read, which tells nothing of what it holds.

    Threads help: hashlib lets others run while it digests, at some 1 GB/s a core.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="digest") as pool:
        return list(pool.map(_content, sources))


def _content(source: ImageSource) -> Content | None:
    if source.file is None:
        return None
    digest = hashlib.blake2b(digest_size=CONTENT_BYTES)
    try:
        file = source.file()
        if file is None:
            return None
        if not isinstance(file.source, Path):
            digest.update(file.source)
            return digest.digest()
        if not stat.S_ISREG(file.source.stat().st_mode):  # opening a named pipe would wait for ever
            return NO_FILE
        with file.source.open("rb") as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        return NO_FILE if error.errno in _NO_FILE else None
    except (ImageError, ValueError):  # ValueError: a NUL in the name
        return None
    return digest.digest()

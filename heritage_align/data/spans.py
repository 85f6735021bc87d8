"""Parts of a file that is not mapped: one that shrinks or is replaced while it is in use gives an error, not SIGBUS."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from heritage_align.errors import DataError


class FileSpans:
    """Reads parts of a file as it was when this was made; safe in threads, and holds no file open.

    Args:
        path: the file.

    Raises:
        DataError: the file cannot be looked at.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._state = _state(path.stat())
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error

    @property
    def size(self) -> int:
        """Bytes of the file when this was made."""
        return self._state[1]

    def refuse_changed(self) -> None:
        """Raise DataError where the file is gone or is no longer as it was: one that is mapped must not be read then.

        Costs one call of the system, 1 to 2 microseconds on a local disk.
        """
        if FileSpans(self.path)._state != self._state:
            raise DataError(f"{self.path}: was changed since it was opened")

    def read(self, begin: int, length: int) -> bytes:
        """Return bytes; raises DataError where the file is gone, was changed, or ends before them."""
        with self.opened() as read:
            return read(begin, length)

    @contextmanager
    def opened(self) -> Iterator[Callable[[int, int], bytes]]:
        """Open the file for many readings (opening takes 30 of the 45 microseconds of one); raises as `read`."""
        try:
            with self.path.open("rb") as stream:
                if _state(os.fstat(stream.fileno())) != self._state:
                    raise DataError(f"{self.path}: was changed since it was opened")

                def read(begin: int, length: int) -> bytes:
                    stream.seek(begin)
                    data = stream.read(length)
                    if len(data) != length:
                        raise DataError(f"{self.path}: ends at byte {begin + len(data)}, {begin + length} are needed")
                    return data

                yield read
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}") from error


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns

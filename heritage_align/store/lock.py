"""One process at a time changes a store that is finished."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from heritage_align.errors import StoreError


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Keep others from updating or compacting a store; the system lets go of it even if this process is killed.

    Raises:
        StoreError: another process is changing the store.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"{folder}: another process is updating or compacting it; try again when it is done"
            ) from None
        except OSError:  # a file system without locks: two at once are the caller's to avoid
            pass
        yield
    finally:
        os.close(descriptor)


@contextmanager
def waiting_for(folder: Path) -> Iterator[None]:
    """Make a folder and hold it alone, waiting for a process that holds it, which may rename or remove it meanwhile."""
    try:
        import fcntl
    except ImportError:  # Windows
        folder.mkdir(exist_ok=True)
        yield
        return
    while True:
        folder.mkdir(exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # between the two
            continue
        try:
            with suppress(OSError):  # a file system without locks: as for `changing`
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is(folder, descriptor):
                yield
                return
        finally:
            os.close(descriptor)


def _is(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False

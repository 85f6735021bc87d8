"""One process at a time changes a store that is finished."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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

"""Write files so that a killed process leaves the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from heritage_align.errors import StoreError

_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""In safetensors' messages: ``I/O error: No space left on device (os error 28)``."""

_WRITING_FAILED = re.compile(_SYSTEM_ERROR.pattern + r"|inline_container\.cc.*(unexpected pos|failed writ)", re.DOTALL)
"""torch.save tells nothing but where its writer stood: ``inline_container.cc:672] . unexpected pos 576 vs 534``."""


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it, and rename it to `path`.

    Raises:
        StoreError: the file cannot be written.
    """
    temporary = path.with_name(_temporary_name(path.name, os.getpid()))
    try:
        _remove_stale(path)
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)  # what the umask leaves; safetensors would keep all to the owner
        write(temporary)
        temporary.chmod(mode)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {_reason(error, path)}") from error
    except Exception as error:
        # safetensors and torch.save have errors of their own for a full disk; any other fault stays what it is.
        if _WRITING_FAILED.search(str(error)) is None:
            raise
        raise StoreError(f"{path}: cannot be written: {_reason(error, path)}") from error
    finally:
        with suppress(OSError):  # what forbade the writing forbids this; a later run removes what is left
            temporary.unlink(missing_ok=True)


def _reason(error: Exception, path: Path) -> str:
    """Return what the system says, with the room that is left where it may be that which is missing."""
    number = error.errno if isinstance(error, OSError) else None
    named = _SYSTEM_ERROR.search(str(error))
    if number is None and named is not None:
        number = int(named[1])
    reason = os.strerror(number) if number is not None else "the file could not be written to its end"
    if number in (None, errno.ENOSPC):
        with suppress(OSError):
            reason += f" ({shutil.disk_usage(path.parent).free / 2**20:.0f} MiB are free)"
    return reason


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text atomically."""
    write_atomically(path, lambda temporary: _write_text(temporary, text))


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON document atomically."""
    write_text(path, json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises StoreError that names the file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise StoreError(f"{path}: expected a JSON object, got {type(document).__name__}")
    return document


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _remove_stale(path: Path) -> None:
    """Remove what runs that were killed on this machine left of their writing `path`.

    The file of a process that still runs stays: two builds of one store may write the same shard at once. So is
    that of another machine, which nobody can ask from here.
    """
    for stale in path.parent.glob(_temporary_name(path.name, "*")):
        pid = stale.name.removesuffix(".tmp").rpartition("-")[2]
        if os.name == "posix" and pid.isdecimal() and not _runs(int(pid)):
            stale.unlink(missing_ok=True)


def _temporary_name(name: str, pid: int | str) -> str:
    return f".{name}.{socket.gethostname()}-{pid}.tmp"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's process
        return True
    return True


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync_folder(folder: Path) -> None:
    # Without this the rename itself may be lost in a power cut. Windows cannot open folders, and needs it not.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

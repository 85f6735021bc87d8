"""Say what a file is that is not what its name promises: what a download or a clone leaves in the place of the file."""

from __future__ import annotations

import re
from pathlib import Path

LOOKED_AT = 1024
"""Bytes that tell what a file is."""

_POINTER = b"version https://git-lfs.github.com/spec/"
_ANNEX = re.compile(rb"(\.\./)*(\.git/annex/objects|/annex/objects)/")
# A comment ends at the first -->: with .*? in its place a hundred of them can be told apart in 2^100 ways.
_MARKUP = re.compile(
    rb"\s*(<!--(?:(?!-->).)*-->\s*)*<(!doctype html|html|head|body|\?xml|error)\b", re.IGNORECASE | re.DOTALL
)


def foreign(path: Path, *, messages: bool = True) -> str | None:
    """Return what a file is instead, as the rest of a sentence that begins with its name; None where nothing is known.

    A Git LFS or git-annex pointer, a web page, an error as XML or JSON, nothing at all: they are told by their first
    1024 bytes.

    Args:
        path: the file.
        messages: whether JSON with an error in it counts: not for a table of JSON Lines, which may have such a column.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        return foreign_head(stream.read(LOOKED_AT), messages=messages)


def foreign_head(head: bytes, *, messages: bool = True) -> str | None:
    """Return what `foreign` does, of the first `LOOKED_AT` bytes of a file."""
    if not head:
        return "is empty (0 bytes): it was not written or downloaded to its end"
    if head.startswith(_POINTER):
        size = re.search(rb"^size (\d+)$", head, re.MULTILINE)
        whole = f" of the file of {int(size[1]) / 2**20:.1f} MiB" if size else ""
        return f"is a Git LFS pointer{whole}, not the file itself: fetch it with `git lfs pull`"
    if _ANNEX.match(head):
        return "is a git-annex pointer, not the file itself: fetch it with `git annex get`"
    head = head.removeprefix(b"\xef\xbb\xbf")
    if _MARKUP.match(head):
        return (
            "is a web page or an error as XML, not the file itself: download it again (a page for logging in, or "
            "for a file that is too large to be scanned, is often saved in its place)"
        )
    if messages and re.match(rb'\s*\{\s*"(error|message|errors|detail)"\s*:', head):
        return f"is the error message of a server, not the file itself: {_shown(head)}"
    if not head.strip(b"\0"):
        return "begins with zeros alone: it was not written or downloaded to its end"
    return None


def _shown(head: bytes) -> str:
    text = " ".join(head.decode("utf-8", "replace").split())
    return text if len(text) <= 80 else text[:77] + "..."

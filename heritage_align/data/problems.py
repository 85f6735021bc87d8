"""Collect the faults of a data file and report the first few, with their number, in one error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from heritage_align.errors import DataError

SHOWN = 10
"""Faults that one error spells out; a file with a systematic fault would otherwise print a line per row."""


class Problems:
    """The faults found so far while a data set is read.

    Args:
        source: what is being read, the beginning of the error.
    """

    def __init__(self, source: str | Path) -> None:
        self.source = str(source)
        self.count = 0
        self._shown: list[str] = []

    def add(self, place: str, problem: str) -> None:
        """Note a fault at `place`, for example ``dishes.jsonl:12``."""
        self.count += 1
        if len(self._shown) < SHOWN:
            self._shown.append(f"{place}: {problem}")

    def raise_if_any(self) -> None:
        """Raise DataError that lists the first faults and says how many there are; nothing where there is
        none."""
        if not self.count:
            return
        lines = [f"{self.source}: {self.count} problem{'s' if self.count != 1 else ''}"]
        lines += [f"  {problem}" for problem in self._shown]
        if self.count > len(self._shown):
            lines.append(f"  ... and {self.count - len(self._shown)} more")
        raise DataError("\n".join(lines))


def left_out(skipped: Sequence[tuple[str, str]], names_all: str = "") -> Iterator[str]:
    """Yield a line for each of the first pictures that cannot be read, and one that counts the others.

    A clone without its large files has a pointer in the place of every picture.

    Args:
        skipped: image ids and reasons.
        names_all: what names the others, for the last line.
    """
    for image_id, reason in skipped[:SHOWN]:
        yield f"left out {image_id}: {reason}"
    if len(skipped) > SHOWN:
        yield f"left out {len(skipped) - SHOWN} more{f' ({names_all} names them all)' if names_all else ''}"

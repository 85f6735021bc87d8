"""Text and JSON Lines files read line by line, with the place of everything that is wrong in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from heritage_align.data.problems import Problems
from heritage_align.errors import DataError

_BOM = b"\xef\xbb\xbf"


class Row(NamedTuple):
    """One record of a table: its place (``file:line``) and its fields by name."""

    place: str
    fields: dict[str, Any]


def numbered_lines(path: Path, problems: Problems) -> Iterator[tuple[int, str]]:
    """Yield ``(line number from 1, line with its ending)``; a line that is not UTF-8 becomes a problem.

    A byte order mark, which spreadsheet programs write, is skipped.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    try:
        with path.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                if number == 1:
                    raw = raw.removeprefix(_BOM)
                try:
                    line = raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    problems.add(f"{path}:{number}", f"is not UTF-8 (byte {error.start + 1}: {error.reason})")
                    continue
                yield number, line
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def jsonl_rows(path: Path, problems: Problems) -> Iterator[Row]:
    """Yield the objects of a JSON Lines file; a broken line becomes a problem, an empty line is skipped.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    for number, line in numbered_lines(path, problems):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            record = parse_json(line)
        except ValueError as error:
            problems.add(place, f"is not JSON: {error}")
            continue
        if not isinstance(record, dict):
            problems.add(place, f"expected an object {{...}}, got {type(record).__name__}")
            continue
        yield Row(place, record)


def parse_json(text: str) -> Any:
    """Parse one JSON document; every way in which it can be broken is a ValueError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} (column {error.colno})") from error
    except RecursionError:
        raise ValueError("is nested too deeply") from None

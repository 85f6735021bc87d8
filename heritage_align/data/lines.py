"""Text and JSON Lines files read line by line, with the place of everything that is wrong in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from heritage_align.data.encodings import decoded_lines
from heritage_align.data.problems import Problems
from heritage_align.errors import DataError
from heritage_align.repeated import first_repeated

T = TypeVar("T")


class Row(NamedTuple):
    """One record of a table: its place (``file:line``) and its fields by name."""

    place: str
    fields: dict[str, Any]


def numbered_lines(
    path: Path, problems: Problems, encoding: str | None = None, *, quiet: bool = False
) -> Iterator[tuple[int, str]]:
    """Yield ``(line number from 1, line with its ending)``; a line that cannot be decoded becomes a problem.

    A byte order mark, which spreadsheet programs write, is skipped.

    Args:
        path: the file.
        problems: takes the faults.
        encoding: Python's name; None finds it out, and says a guess on stderr.
        quiet: do not say it.

    Raises:
        DataError: the file is missing or cannot be read, or there is no such encoding.
    """
    for number, line, fault in decoded_lines(path, encoding, quiet=quiet):
        if fault is not None:
            problems.add(f"{path}:{number}", fault)
        else:
            yield number, line


def jsonl_rows(path: Path, problems: Problems, encoding: str | None = None) -> Iterator[Row]:
    """Yield the objects of a JSON Lines file; a broken line becomes a problem, an empty line is skipped.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    for number, line in numbered_lines(path, problems, encoding):
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


def parse_json(text: str, *, unique: bool = False) -> Any:
    """Parse one JSON document; every way in which it can be broken is a ValueError, and with `unique` a key twice."""
    try:
        return json.loads(text, object_pairs_hook=_unique if unique else None)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} (column {error.colno})") from error
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def read_json(path: Path, kind: str, parse: Callable[[Any], T]) -> T:
    """Return what a file of one JSON document holds.

    Args:
        path: the file, of UTF-8 with or without a byte order mark.
        kind: what it is expected to be, with its article, as errors call it: ``"a Karpathy split file"``.
        parse: makes the result of the document; raises ValueError where it is of another form.

    Raises:
        DataError: the file cannot be read, is no JSON, or `parse` refuses what it says.
    """
    try:
        return parse(parse_json(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 (byte {error.start + 1}: {error.reason})") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except ValueError as error:
        raise DataError(f"{path}: is not {kind}: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"{first_repeated(name for name, _ in pairs)!r} occurs twice in an object")
    return found

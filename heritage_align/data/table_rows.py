"""Rows of a table in the forms in which programs export one: CSV with any separator, JSON Lines, a JSON array."""

from __future__ import annotations

import csv
import json
import stat
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from heritage_align.data.encodings import decoded_lines
from heritage_align.data.lines import Row, parse_json
from heritage_align.data.problems import Problems
from heritage_align.errors import DataError
from heritage_align.foreign_files import foreign
from heritage_align.repeated import first_repeated

SEPARATED = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
"""Ending -> the separator that is taken where the file does not tell another. Excel saves "Unicode text" as .txt."""

JSON = (".jsonl", ".ndjson", ".json")
_SEPARATORS = (",", ";", "\t", "|")
_SAMPLE = 200  # lines by which the separator is found
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_SIGNATURES = {
    b"PK\x03\x04": "a spreadsheet or another zip archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet of Excel before 2007",
    b"\x1f\x8b": "packed (gzip)",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "an SQLite database",
    b"%PDF": "a PDF",
}
_AS_CSV = "save it as CSV (in Excel: CSV UTF-8)"

Line = tuple[int, str]


def table_rows(
    path: Path,
    problems: Problems,
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    quiet: bool = False,
) -> Iterator[Row]:
    """Yield the rows of a table; what is wrong with a row becomes a problem with its line, and the row is left out.

    Args:
        path: see `SEPARATED` and `JSON`.
        problems: takes the faults.
        delimiter: between columns of a CSV; None finds it out: Excel's line ``sep=;``, else the one of ``, ; tab |``
            by which the first rows have the same number of columns as the header.
        encoding: as of `decoded_lines`.
        quiet: do not say which encoding was guessed.

    Raises:
        DataError: the file cannot be read or is no table, a column has the name of another, or a quote is not closed.
    """
    suffix = path.suffix.lower()
    if suffix in SPREADSHEETS:
        raise DataError(f"{path}: is a spreadsheet; {_AS_CSV}")
    if suffix not in SEPARATED and suffix not in JSON:
        raise DataError(f"{path}: is not {', '.join([*SEPARATED, *JSON[:-1]])} or {JSON[-1]}")
    refuse_others(path, _AS_CSV)
    lines = _sound(decoded_lines(path, encoding, quiet=quiet), path, problems)
    if suffix in JSON:
        return _json_rows(path, lines, problems)
    return _separated_rows(path, lines, problems, delimiter, SEPARATED[suffix])


def refuse_others(path: Path, remedy: str) -> None:
    """Raise DataError for what is no text: a spreadsheet, a packed file, a web page; `remedy` says what to do."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a named pipe would be waited for, and can be read only once
            raise DataError(f"{path}: is a {'folder' if path.is_dir() else 'pipe or a device'}, not a file")
        with path.open("rb") as stream:
            head = stream.read(16)
        instead = foreign(path, messages=False) if head else None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            raise DataError(f"{path}: is {kind}, whatever its name ends with; {remedy}")
    if instead is not None:
        raise DataError(f"{path}: {instead}")


def _sound(lines: Iterable[tuple[int, str, str | None]], path: Path, problems: Problems) -> Iterator[Line]:
    for number, line, fault in lines:
        if fault is None and "\0" in line:
            fault = "holds NUL characters, as a file that was not written to its end does"
        if fault is not None:
            problems.add(f"{path}:{number}", fault)
        else:
            yield number, line


def _json_rows(path: Path, lines: Iterator[Line], problems: Problems) -> Iterator[Row]:
    """Yield objects, one a line or those of one array."""
    filled: Iterator[Line] = ((number, line) for number, line in lines if line.strip())
    first = next(filled, None)
    if first is None:
        return
    if first[1].lstrip().startswith("["):
        everything = [first, *filled]
        if path.suffix.lower() == ".json" or _is_list_of_objects(everything):
            yield from _array_rows(path, everything, problems)
            return
        filled = iter(everything[1:])
    second = next(filled, None)
    if second is None and path.suffix.lower() == ".json":
        _refuse_columns(path, first[1])
    for number, line in chain([first], [] if second is None else [second], filled):
        place = f"{path}:{number}"
        try:
            record = parse_json(line, unique=True)
        except ValueError as error:
            problems.add(place, f"is not JSON: {error}")
            if number == first[0] and line.strip() == "{":
                wanted = "a list of rows, [{...}, ...], or a row a line"
                raise DataError(f"{path}: is one JSON object over several lines; expected {wanted}") from None
            continue
        if isinstance(record, dict):
            yield Row(place, record)
        else:
            problems.add(place, f"expected an object {{...}}, got {type(record).__name__}")


def _refuse_columns(path: Path, line: str) -> None:
    """Raise DataError for a whole table as one object, as pandas writes it: it would be read as one row."""
    try:
        record = parse_json(line)
    except ValueError:
        return
    values = list(record.values()) if isinstance(record, dict) else []
    lists = all(isinstance(value, list) and len(value) > 1 for value in values) and len({*map(len, values)}) == 1
    objects = all(isinstance(value, dict) for value in values)
    if len(values) > 1 and (lists or objects):
        raise DataError(
            f"{path}: is one object whose values are columns; expected a list of rows, [{{...}}, ...] (pandas writes "
            "it with orient='records'; a row that is alone goes into brackets too)"
        )


def _is_list_of_objects(lines: list[Line]) -> bool:
    try:
        records = parse_json("".join(line for _, line in lines))
    except ValueError:
        return False
    return all(isinstance(record, dict) for record in records)


def _array_rows(path: Path, lines: list[Line], problems: Problems) -> Iterator[Row]:
    text = "".join(line for _, line in lines)
    try:
        records = parse_json(text, unique=True)
    except ValueError as error:
        place = str(path)
        if isinstance(error.__cause__, json.JSONDecodeError):
            place += f":{lines[min(error.__cause__.lineno, len(lines)) - 1][0]}"
        raise DataError(f"{place}: is not a JSON array of rows: {error}") from error
    for number, record in enumerate(records, start=1):
        place = f"{path}, entry {number}"
        if isinstance(record, dict):
            yield Row(place, record)
        else:
            problems.add(place, f"expected an object {{...}}, got {type(record).__name__}")


def _separated_rows(
    path: Path, lines: Iterator[Line], problems: Problems, delimiter: str | None, natural: str
) -> Iterator[Row]:
    sample = list(islice(lines, _SAMPLE))
    announced = _announced(sample[0][1]) if sample else None
    if announced is not None:
        del sample[0]
    delimiter = delimiter or announced or _separator([line for _, line in sample], natural)
    header: list[str] | None = None
    for number, record in _records(path, chain(sample, lines), delimiter, problems):
        place = f"{path}:{number}"
        if not any(cell.strip() for cell in record):
            continue
        if header is None:
            header = _header(place, record)
            continue
        extra = len(record) - len(header)
        if extra < 0 or any(cell.strip() for cell in record[len(header) :]):
            problems.add(place, f"has {len(record)} fields, the header has {len(header)}")
            continue
        # An empty cell says that there is no value, as a missing key does in JSON.
        yield Row(place, {column: cell or None for column, cell in zip(header, record) if column})


def _header(place: str, record: list[str]) -> list[str]:
    """Return the columns' names, '' for one without; those without at the end are what spreadsheets leave there."""
    header = [column.strip().lstrip("\ufeff") for column in record]
    while header and not header[-1]:
        del header[-1]
    twice = first_repeated(column for column in header if column)
    if twice is not None:
        raise DataError(f"{place}: column {twice!r} occurs twice")
    return header


def _records(path: Path, lines: Iterator[Line], delimiter: str, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """Yield ``(number of its first line, cells)``."""
    first: int | None = None

    def fed() -> Iterator[str]:
        nonlocal first
        for number, line in lines:
            first = number if first is None else first
            yield line

    reader = csv.reader(fed(), delimiter=delimiter, strict=True)
    while True:
        first = None
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.add(f"{path}:{first}", f"{_explained(str(error))}; the rest is not read")
            return
        yield first or 0, record


def _explained(error: str) -> str:
    if "field larger" in error:
        return f"has a cell of more than {csv.field_size_limit()} characters: is a quote opened and not closed?"
    if "unexpected end of data" in error:
        return f"a quote is opened here and not closed ({error})"
    if "expected after" in error:
        return f'holds a quote inside a quoted cell, which must be written twice, as in "say ""yes""" ({error})'
    return error


def _announced(line: str) -> str | None:
    """Return the separator that Excel's first line ``sep=;`` names."""
    text = line.strip("\r\n").strip('"')
    return text[4] if len(text) == 5 and text.lower().startswith("sep=") else None


def _separator(lines: list[str], natural: str) -> str:
    """Return the separator that divides the header, and the other rows into as many columns as the header."""

    def fit(delimiter: str) -> tuple[float, int, bool]:
        try:
            records = [record for record in csv.reader(lines, delimiter=delimiter) if any(record)]
        except csv.Error:
            return 0.0, 0, False
        columns = len(records[0]) if records else 0
        if columns < 2:
            return 0.0, 0, delimiter == natural
        body = records[1:]
        alike = sum(len(record) == columns for record in body) / len(body) if body else 1.0
        return alike, columns, delimiter == natural

    return max((natural, *_SEPARATORS), key=fit)

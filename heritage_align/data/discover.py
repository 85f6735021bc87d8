"""Look at a path that a user gave as a collection: which table, which columns, which splits, which features file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from heritage_align.data.lines import Row
from heritage_align.data.precomputed import precomputed_splits
from heritage_align.data.problems import Problems
from heritage_align.data.table_rows import JSON, SEPARATED, SPREADSHEETS, table_rows
from heritage_align.errors import DataError, Note

TABLES = (*JSON, *SEPARATED)
FEATURES = (".safetensors", ".npz", ".tsv")

IMAGE_COLUMNS = (
    *("image", "picture", "image_path", "picture_path", "img", "path", "file", "filename", "file_name"),
    *("images", "pictures", "image_paths", "picture_paths"),
)
TEXT_COLUMNS = ("text", "texts", "caption", "captions", "sentence", "sentences", "description", "title")
GROUP_COLUMNS = ("group", "artwork", "artwork_id", "object_id")
"""What pictures have in common that folds and held out parts must not split."""
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval"),
}
"""Part -> the words by which tables call it, in any case."""

_SHOWN = 3
_LOOKED_AT = 200  # rows by which columns are found: the first may have none of the texts
_OF_ROWS = tuple(suffix for suffix in (*SEPARATED, *JSON, *SPREADSHEETS) if suffix not in (".txt", ".json"))
"""Endings of files that nobody writes but for rows."""


@dataclass(frozen=True)
class Discovered:
    """What a path holds.

    Attributes:
        table: the file of pictures and texts, or the folder that is a data set as it is.
        role: of the data set that reads it: ``pairs`` a table, ``precomputed`` a folder of features and captions.
        columns: settings of the data set that reads the table, for columns that are not called by their default names.
        splits: part (``train``, ``val``, ``test``) -> the word by which the table calls it; {} without such a column.
        features: the file of region features beside the table; None for none or several.
    """

    table: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    features: Path | None = None
    role: str = "pairs"

    def settings(self, part: str | None = None, require_pictures: bool = True) -> dict[str, Any]:
        """Return the settings of the data set for a part, or all rows where the table has no splits.

        Raises:
            DataError: features and captions of splits, and no part is asked for.
        """
        if self.role == "precomputed":
            if part is None:
                raise DataError(
                    f"{self.table}: has splits {', '.join(self.splits.values())}, and no test to evaluate on"
                )
            return {"folder": str(self.table), "split": self.splits[part]}
        document: dict[str, Any] = {"file": str(self.table), **self.columns}
        if part is not None and self.splits:
            document["split"] = self.splits[part]
        if not require_pictures:
            document["require_pictures"] = False
        return document


def discover(path: Path) -> Discovered | None:
    """Look at a table, or a folder with one; None for a folder without a table (plain pictures).

    Tables of a folder that are not taken, and splits that have other names than `SPLITS`, are said in a `Note`. Names
    of columns may be in any case, with blanks or hyphens for ``_`` (``Image``, ``File name``).

    Raises:
        DataError: there is no such path, or a folder holds several tables.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    features = _features(path if path.is_dir() else path.parent)
    if path.is_dir():
        splits = _named(set(precomputed_splits(path)))
        if splits:
            return Discovered(path, splits=splits, features=path, role="precomputed")
        rest = [p for p in _files(path, (*TABLES, *SPREADSHEETS)) if p not in features]
        columns_of = {p: _filled(p) for p in rest}
        tables = [p for p in rest if _column(columns_of[p], IMAGE_COLUMNS)]
        if not tables:
            _say_not_taken(path, [p for p in rest if p.suffix.lower() in _OF_ROWS])
            return None
        if len(tables) > 1:
            raise DataError(f"{path}: holds several tables ({_names(tables)}); name the one that is meant")
        path = tables[0]
        filled = columns_of[path]
    else:
        filled = _filled(path)
    known = {"image": IMAGE_COLUMNS, "text": TEXT_COLUMNS, **{key: (key,) for key in ("phrases", "split", "language")}}
    found = {key: name for key, names in known.items() if (name := _column(filled, names)) is not None}
    columns = {key: name for key, name in found.items() if name != key}
    group = _column(filled, GROUP_COLUMNS)
    if group is not None:
        columns["group"] = group
    beside = features[0] if len(features) == 1 else None
    return Discovered(path, columns, _splits(path, found.get("split", "split")), beside)


def _features(folder: Path) -> list[Path]:
    return [p for p in _files(folder, FEATURES) if "feature" in p.name.lower()]


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return what is meant for people: macOS keeps ``._t.csv`` beside a table, Excel ``~$t.xlsx`` while it is open."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith((".", "~$")))


def _names(paths: list[Path]) -> str:
    return ", ".join(p.name for p in paths)


def _column(filled: Collection[str], known: tuple[str, ...]) -> str | None:
    """Return the first of the known names that a column has, exactly before nearly."""
    exact = next((name for name in known if name in filled), None)
    if exact is not None:
        return exact
    plain: dict[str, str] = {}
    for name in filled:
        plain.setdefault(name.strip().casefold().replace(" ", "_").replace("-", "_"), name)
    return next((plain[name] for name in known if name in plain), None)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield a table's readable rows; what is wrong with the others is the reader's to say."""
    with suppress(DataError):
        for row in table_rows(path, Problems(path), quiet=True):
            yield row.fields


def _filled(path: Path) -> dict[str, None]:
    """Return the columns that have a value in one of the first rows."""
    rows = islice(_rows(path), _LOOKED_AT)
    return {name: None for row in rows for name, value in row.items() if value is not None}


def _splits(path: Path, column: str) -> dict[str, str]:
    words = {word.strip() for row in _rows(path) if isinstance(word := row.get(column), str) and word.strip()}
    found = _named(words)
    if words and not found:
        _note(
            f"{path}: column {column!r} has {_some(sorted(words))}, none of which is train, val or test: all rows are "
            "taken; the setting `split` of the data set takes those of one"
        )
    return found


def _say_not_taken(folder: Path, tables: list[Path]) -> None:
    """Say why the tables of a folder are none of its pictures' texts."""
    reasons = []
    for table in tables:
        try:
            names = list(next(iter(table_rows(table, Problems(table), quiet=True)), Row("", {})).fields)
            known = ", ".join(IMAGE_COLUMNS[:3])
            reasons.append(f"{table.name} has no column of pictures ({known} ...), only {_some(names) or 'none'}")
        except DataError as error:
            reasons.append(str(error).removeprefix(f"{folder}{os.sep}"))
    if reasons:
        more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        _note(f"{folder}: its pictures are taken without texts: {'; '.join(reasons[:_SHOWN])}{more}")


def _some(words: list[str]) -> str:
    return ", ".join(map(repr, words[:_SHOWN])) + (" ..." if len(words) > _SHOWN else "")


def _note(text: str) -> None:
    warnings.warn(text, Note, stacklevel=3)


def _named(words: Collection[str]) -> dict[str, str]:
    """Return part -> the word that is there for it."""
    plain = {word.casefold(): word for word in sorted(words, reverse=True)}
    found = {part: next((plain[w] for w in names if w in plain), None) for part, names in SPLITS.items()}
    return {part: word for part, word in found.items() if word is not None}

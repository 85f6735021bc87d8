"""Look at a path that a user gave as a collection: which table, which columns, which splits, which features file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heritage_align.data.precomputed import precomputed_splits
from heritage_align.data.problems import Problems
from heritage_align.data.table_rows import JSON, SEPARATED, table_rows
from heritage_align.errors import DataError

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
"""Part -> the words by which tables call it."""


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
        tables = sorted(p for p in path.iterdir() if p.suffix.lower() in TABLES and p not in features)
        tables = [p for p in tables if _column(_first_row(p), IMAGE_COLUMNS)]
        if not tables:
            return None
        if len(tables) > 1:
            raise DataError(f"{path}: holds several tables ({_names(tables)}); name the one that is meant")
        path = tables[0]
    row = _first_row(path)
    image, text = _column(row, IMAGE_COLUMNS), _column(row, TEXT_COLUMNS)
    columns = {key: name for key, name in (("image", image), ("text", text)) if name not in (None, key)}
    group = _column(row, GROUP_COLUMNS)
    if group is not None:
        columns["group"] = group
    beside = features[0] if len(features) == 1 else None
    return Discovered(path, {key: str(name) for key, name in columns.items()}, _splits(path), beside)


def _features(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in FEATURES and "feature" in p.name.lower())


def _names(paths: list[Path]) -> str:
    return ", ".join(p.name for p in paths)


def _column(row: Mapping[str, Any], known: tuple[str, ...]) -> str | None:
    return next((name for name in known if row.get(name) is not None), None)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield a table's readable rows; what is wrong with the others is the reader's to say."""
    with suppress(DataError):
        for row in table_rows(path, Problems(path), quiet=True):
            yield row.fields


def _first_row(path: Path) -> dict[str, Any]:
    return next(_rows(path), {})


def _splits(path: Path) -> dict[str, str]:
    words = {word for row in _rows(path) if isinstance(word := row.get("split"), str)}
    return _named(words)


def _named(words: Collection[str]) -> dict[str, str]:
    """Return part -> the word that is there for it."""
    found = {part: next((w for w in names if w in words), None) for part, names in SPLITS.items()}
    return {part: word for part, word in found.items() if word is not None}

"""A table of pictures and texts, CSV or JSON: the form for everybody who has no other.

One row is one text of one picture; a picture may have several rows, and in JSON Lines a row may have a list
of texts. A row may also have several pictures, of which its texts are all true: a list in JSON Lines, separated by | in
CSV, as phrases are. Columns may have any name::

    {"image": "images/1.jpg", "title": "小炒鸡肝", "ingredients": ["生鸡肝", "蒜苗"]}      JSON Lines
    {"image": ["vase-front.jpg", "vase-back.jpg"], "text": ["青花瓶", "a blue and white vase"]}

    image,text,phrases                                                                CSV
    images/1.jpg,A roundel with two cranes,roundel|two cranes
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from heritage_align.data.collection import Collection
from heritage_align.data.fields import UniqueIds, as_id, as_text, as_texts, optional, required
from heritage_align.data.lines import Row
from heritage_align.data.pictures import FilePictures, SameFiles, path_below
from heritage_align.data.problems import Problems
from heritage_align.data.table_rows import SEPARATED, table_rows
from heritage_align.errors import did_you_mean
from heritage_align.types import TextItem

_BETWEEN = {quote: re.compile(rf"""{quote}\s*,\s*["']""") for quote in "\"'"}


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; `image` and `text` must be there.

    Attributes:
        image: path of the picture, relative to the pictures' folder; in its normal form it is the image's id. In JSON
            Lines also a list of them, in CSV several separated as phrases are: each is a right answer for the texts.
        text: the text; in JSON Lines also a list of texts.
        id: the text's id; without it ``<image>#<k>``, the (first) picture's k-th text from 0.
        phrases: noun phrases of the text: a list in JSON Lines, separated in CSV.
        split: ``train``, ``test`` ...
        language: ``zh`` or ``en``.
        group: what pictures have in common that must not be split in cross-validation (a dish, an artwork); None:
            every picture is on its own, but for those that rows have together.
    """

    image: str = "image"
    text: str = "text"
    id: str = "id"
    phrases: str = "phrases"
    split: str = "split"
    language: str = "language"
    group: str | None = None


def read_table(
    path: Path,
    *,
    images: Path | None = None,
    prefix: str | None = None,
    columns: Columns = Columns(),
    split: str | None = None,
    language: str | None = None,
    separator: str = "|",
    name: str | None = None,
    require_pictures: bool = True,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> Collection:
    """Read a table of pictures and texts.

    Args:
        path: ``.csv``, ``.tsv``, ``.tab``, ``.txt`` (first line: the columns' names) or ``.jsonl``, ``.ndjson``,
            ``.json`` (a row a line, or a list of rows).
        images: the folder that picture paths are relative to and must not leave; by default the table's own.
        prefix: beginning of the paths that stands for that folder, where they are of another computer (``D:\\museum``).
        columns: their names. A column that is renamed must be there.
        split: take the rows whose split column says this, in any case; None takes all.
        language: of rows without a language column.
        separator: between phrases, and between the pictures of a row, in a CSV or TSV.
        name: of the data set; by default the file's name and the split.
        require_pictures: False for a table whose pictures are not needed, as their features are at hand.
        delimiter: between columns; None finds out which of ``, ; tab |``.
        encoding: Python's name; None finds it out (`data.encodings`) and says a guess on stderr.

    Raises:
        DataError: the file cannot be read, or rows are at fault: each is named by its line.
    """
    problems = Problems(path)
    root = path.parent if images is None else images
    rows = _Selected(path, table_rows(path, problems, delimiter=delimiter, encoding=encoding), columns, split, problems)
    unique = UniqueIds("text id", problems)
    files: dict[str, Path] = {}
    same = SameFiles()
    owners: dict[str, str] = {}
    counts: dict[str, int] = {}
    together: list[tuple[str, ...]] = []
    items: list[TextItem] = []
    for place, row in rows:
        try:
            named = _images(row, columns.image, separator, path)
            found = [path_below(root, name, prefix=prefix) for name in named]
            pictures = {same.first(image_id, file): file for image_id, file in found}
            image_ids = tuple(pictures)
            texts = _texts(row, columns.text)
            group = required(row, columns.group, as_id) if columns.group is not None else ""
            item = TextItem(
                id=optional(row, columns.id, as_id, ""),
                text="",
                image_ids=image_ids,
                phrases=_phrases(row, columns.phrases, separator),
                language=optional(row, columns.language, as_text, language or "") or None,
            )
        except ValueError as error:
            problems.add(place, str(error))
            continue
        for image_id, file in pictures.items():
            files.setdefault(image_id, file)
        together.append(image_ids)
        if columns.group is not None:
            for image_id in image_ids:
                if owners.setdefault(image_id, group) != group:
                    problems.add(place, f"picture {image_id!r} is of {columns.group} {owners[image_id]!r} already")
        for position, text in enumerate(texts):
            number = counts.get(image_ids[0], 0)
            counts[image_ids[0]] = number + 1
            if not item.id:
                text_id = f"{image_ids[0]}#{number}"
            else:
                text_id = item.id if len(texts) == 1 else f"{item.id}#{position}"
            if unique.add(text_id, place):
                items.append(replace(item, id=text_id, text=text))
    rows.check()
    problems.raise_if_any()
    title = name or (f"{path.stem}/{split}" if split else path.stem)
    artwork_of = owners if columns.group is not None else _connected(together)
    return Collection(title, FilePictures(files), items, require_pictures=require_pictures, artwork_of=artwork_of)


class _Selected:
    """The rows of one split, remembering which columns and splits occurred."""

    def __init__(
        self, path: Path, rows: Iterator[Row], columns: Columns, split: str | None, problems: Problems
    ) -> None:
        self._path, self._rows, self._columns, self._split, self._problems = path, rows, columns, split, problems
        self._seen: dict[str, None] = {}
        self._splits: dict[str, None] = {}
        self._count = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self._seen.update(dict.fromkeys(row.fields))
            if self._split is not None:
                try:
                    split = required(row.fields, self._columns.split, as_text)
                except ValueError as error:
                    self._problems.add(row.place, str(error))
                    continue
                self._splits[split] = None
                if split.casefold() != self._split.casefold():
                    continue
            self._count += 1
            yield row

    def check(self) -> None:
        """Raise DataError for a needed column that no row has, or a split that no row belongs to.

        Only the columns that were renamed or cannot be missed are needed. Said once, before the problems that
        each row has with it.
        """
        problems = Problems(self._path)
        for field in fields(self._columns):
            column = getattr(self._columns, field.name)
            needed = (
                column != field.default
                or field.name in ("image", "text")
                or (field.name == "split" and self._split is not None)
            )
            if needed and self._seen and column not in self._seen:
                there = ", ".join(map(repr, self._seen))
                hint = did_you_mean(column, list(self._seen))
                setting = f"data.{field.name}"
                another = f"--set {setting}=NAME names another (in training, train.{setting})"
                problems.add(f"column {column!r} for {field.name}", f"is not there, only {there}; {another}.{hint}")
        if not self._count and not self._problems.count:
            splits = f" of split {self._split!r}; splits: {', '.join(self._splits)}" if self._splits else ""
            problems.add(str(self._path), f"has no rows{splits}")
        problems.raise_if_any()


def _images(row: dict[str, Any], column: str, separator: str, path: Path) -> tuple[str, ...]:
    """Return the paths of a row's pictures, at least one; in a CSV no name can hold the separator."""
    names = _texts(row, column, least=1)
    if path.suffix.lower() in SEPARATED:
        names = tuple(part.strip() for part in names[0].split(separator) if part.strip())
        if not names:
            raise ValueError(f"{column!r} names no picture")
    return names


def _texts(row: dict[str, Any], column: str, least: int = 2) -> tuple[str, ...]:
    """Return the texts of a cell. One alone may be ``["成化年制"]``, an inscription: a list has `least` entries."""
    if not isinstance(row.get(column), list):
        return (_not_a_list(column, required(row, column, as_text), least),)
    texts = required(row, column, as_texts)
    if not texts:
        raise ValueError(f"{column!r} is an empty list")
    return texts


def _phrases(row: dict[str, Any], column: str, separator: str) -> tuple[str, ...]:
    text = row.get(column)
    if isinstance(text, str):
        parts = _not_a_list(column, text.strip(), 1).split(separator)
        return tuple(part.strip() for part in parts if part.strip())
    return optional(row, column, as_texts, ())


def _not_a_list(column: str, text: str, least: int) -> str:
    if _is_written_list(text, least):
        shown = text if len(text) <= 60 else text[:57] + "..."
        raise ValueError(
            f"{column!r} is a list written as text, {shown}; use .jsonl, which has lists, or "
            "in a CSV a row for each text, and a|b for several pictures or phrases"
        )
    return text


def _is_written_list(text: str, least: int) -> bool:
    """Tell ``['a', 'b']``, as which pandas writes a list into a cell, by its brackets and quotes.

    One regular expression for all of it would take time with the square of the text's length.
    """
    if not (text.startswith("[") and text.endswith("]")):
        return False
    inner = text[1:-1].strip()
    inner = inner[:-1].rstrip() if inner.endswith(",") else inner
    if len(inner) < 2 or inner[0] not in _BETWEEN:
        return False
    if least == 1:
        return inner[-1] == inner[0]
    return inner[-1] in _BETWEEN and _BETWEEN[inner[0]].search(inner, 1, len(inner) - 1) is not None


def _connected(rows: Iterable[tuple[str, ...]]) -> dict[str, str] | None:
    """Return image id -> name of all that rows have together with it, however far; None where no row has several."""
    parents: dict[str, str] = {}

    def top(image_id: str) -> str:
        while parents[image_id] != image_id:
            parents[image_id] = image_id = parents[parents[image_id]]
        return image_id

    several = False
    for image_ids in rows:
        for image_id in image_ids:
            parents.setdefault(image_id, image_id)
            parents[top(image_id)] = top(image_ids[0])
        several = several or len(image_ids) > 1
    return {image_id: top(image_id) for image_id in parents} if several else None

"""Tables in the form of Sheng et al. (2021): recalls of both tasks (4, 6 to 9), p-values (5), BLEU (10).

Tables 4 and 6 to 9 have one form, rows by ``image annotation R@1 R@5 R@10 | image search R@1 R@5 R@10``, a section a
data set; what the rows vary is their `label`: models (4), the variants of text (6), t2i models (7), text data (8), i2t
models (9). Beside the paper's means there is the spread over the folds, and a last row says what chance gives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heritage_align.errors import DataError
from heritage_align.evaluation.bleu import ORDERS, BleuScores
from heritage_align.evaluation.cross_validation import CrossValidationSummary, spread
from heritage_align.evaluation.table import Cell, RecallTable

TASKS = {"i2t": "Image annotation", "t2i": "Image search"}
"""Direction -> the paper's name, in the paper's order."""
CHANCE = "chance"


@dataclass(frozen=True)
class PaperTable:
    """A caption and one table a section (a data set, where there are several).

    Attributes:
        caption: what the table shows; may be empty.
        sections: heading (may be empty) and table.
    """

    caption: str
    sections: tuple[tuple[str, RecallTable], ...]

    def to_text(self) -> str:
        """Return aligned tables for a terminal."""
        parts = [f"{heading}\n{table.to_text()}" if heading else table.to_text() for heading, table in self.sections]
        return "\n\n".join([self.caption, *parts] if self.caption else parts)

    def to_markdown(self) -> str:
        """Return GitHub tables, captions and headings in bold."""
        parts = [f"**{self.caption}**"] if self.caption else []
        for heading, table in self.sections:
            parts += [f"**{heading}**"] if heading else []
            parts.append(table.to_markdown())
        return "\n\n".join(parts)

    def to_json(self) -> str:
        """Return a JSON object, numbers unrounded."""
        sections = [{"heading": heading, "rows": json.loads(table.to_json())} for heading, table in self.sections]
        return json.dumps({"caption": self.caption, "sections": sections}, ensure_ascii=False, indent=2)


def recall_paper_table(
    sections: Mapping[str, Sequence[CrossValidationSummary]], *, label: str = "model", caption: str = ""
) -> PaperTable:
    """Arrange summaries as Tables 4 and 6 to 9: fold means in percent, ± standard deviation over the folds.

    The row of chance is there where every summary of a section knows it and all agree, that is, have one golden set.

    Args:
        sections: heading (a data set; may be empty) -> rows, as `summarise` makes them.
        label: heading of the first column: what the rows vary.
        caption: what the table shows.

    Raises:
        DataError: a section without rows, or with a system twice.
    """
    tables = []
    for heading, rows in sections.items():
        _refuse_repeats(heading, [row.system for row in rows])
        columns = [
            (direction, k)
            for direction in TASKS
            for k in sorted({k for row in rows for k in row.values.get(direction, {})})
        ]
        body = [(r.system, r.folds, tuple(r.recall(direction, k) for direction, k in columns)) for r in rows]
        level = _common_chance(rows, columns)
        if level is not None:
            body.append((CHANCE, rows[0].folds, level))
        tables.append((heading, RecallTable(task_groups(columns), tuple(body), label)))
    return PaperTable(caption, tuple(tables))


def bleu_paper_table(
    sections: Mapping[str, Mapping[str, Sequence[BleuScores]]], *, label: str = "model", caption: str = ""
) -> PaperTable:
    """Arrange BLEU-1 to BLEU-4 as Table 10: one row a model, mean and standard deviation over the folds.

    Args:
        sections: heading -> model -> its scores, one a fold.
        label: heading of the first column.
        caption: what the table shows.

    Raises:
        DataError: a section without rows, or a model without scores.
    """
    tables = []
    for heading, models in sections.items():
        _refuse_repeats(heading, list(models))
        body = []
        for model, folds in models.items():
            if not folds:
                raise DataError(f"model {model!r}: expected BLEU scores, one a fold, got none")
            cells = tuple(spread([fold.bleu[order - 1] for fold in folds]) for order in ORDERS)
            body.append((model, len(folds), cells))
        groups = ((TASKS["i2t"], tuple(f"BLEU-{order}" for order in ORDERS)),)
        tables.append((heading, RecallTable(groups, tuple(body), label)))
    return PaperTable(caption, tuple(tables))


def task_groups(columns: Sequence[tuple[str, int]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the tasks and their columns, for ``(direction, K)`` in the table's order."""
    directions = dict.fromkeys(direction for direction, _ in columns)
    return tuple((TASKS[d], tuple(f"R@{k}" for direction, k in columns if direction == d)) for d in directions)


def _common_chance(
    rows: Sequence[CrossValidationSummary], columns: Sequence[tuple[str, int]]
) -> tuple[Cell | None, ...] | None:
    levels = []
    for row in rows:
        if row.chance is None:
            return None
        levels.append([row.chance.get(direction, {}).get(k) for direction, k in columns])
    first = levels[0]
    return None if any(level != first for level in levels) else tuple(_mean(values) for values in first)


def _mean(values: Sequence[float] | None) -> Cell | None:
    return None if values is None else Cell(float(np.mean(values)))


def _refuse_repeats(heading: str, names: Sequence[str]) -> None:
    if not names:
        raise DataError(f"section {heading!r}: expected at least one row")
    if repeated := [name for number, name in enumerate(names) if name in names[:number]]:
        raise DataError(f"section {heading!r}: {repeated[0]!r} occurs twice; summarise its folds first")

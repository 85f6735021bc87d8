"""The table of the papers: ``T2I R@1 R@5 R@10 | I2T R@1 R@5 R@10 | MR rsum``, in percent."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heritage_align.evaluation.metrics import EvaluationResult


@dataclass(frozen=True)
class Cell:
    """One number of the table: mean over repeats, and sample standard deviation (n - 1) where there are
    several."""

    mean: float
    std: float | None = None

    def asdict(self) -> dict[str, Any]:
        """Return the numbers, JSON-ready."""
        return {"mean": self.mean, "std": self.std}

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.std is None else f"{self.mean:.1f}±{self.std:.1f}"


@dataclass(frozen=True)
class RecallTable:
    """Rows by system, columns by number; build it with `recall_table`.

    Attributes:
        groups: headings and their columns, for example ``("T2I", ("R@1", "R@5", "R@10"))``.
        rows: system, number of repeats, and a cell per column, None where the system lacks the number.
        label: heading of the first column.
    """

    groups: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[tuple[str, int, tuple[Cell | None, ...]], ...]
    label: str = "system"

    def to_text(self) -> str:
        """Return an aligned table for a terminal; Chinese characters count as two columns."""
        bodies = [self._texts(cells, "-") for _, _, cells in self.rows]
        heads = [column for _, columns in self.groups for column in columns]
        widths = self._widened([max(map(_width, column)) for column in zip(heads, *bodies)])
        first = max(map(_width, [self.label, *(system for system, _, _ in self.rows)]))
        lines = [_pad("", first) + _bars(self._headings(widths))]
        lines.append(_pad(self.label, first) + _bars(self._grouped(heads, widths)))
        for (system, _, _), body in zip(self.rows, bodies):
            lines.append(_pad(system, first) + _bars(self._grouped(body, widths)))
        return "\n".join(line.rstrip() for line in lines)

    def to_markdown(self) -> str:
        """Return a GitHub table; headings of groups are repeated in every column, as it has no spanning
        cells."""
        heads = [f"{title} {column}".strip() for title, columns in self.groups for column in columns]
        lines = ["| " + " | ".join([self.label, *heads]) + " |", "|---|" + "---:|" * len(heads)]
        for system, _, cells in self.rows:
            lines.append("| " + " | ".join([system.replace("|", "\\|"), *self._texts(cells, "")]) + " |")
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return a JSON list, one object a system, numbers unrounded."""
        return json.dumps([self._record(*row) for row in self.rows], ensure_ascii=False, indent=2)

    def _record(self, system: str, repeats: int, cells: tuple[Cell | None, ...]) -> dict[str, Any]:
        record: dict[str, Any] = {"system": system, "repeats": repeats}
        remaining = iter(cells)
        for title, columns in self.groups:
            place = record.setdefault(title.lower(), {}) if title else record
            for column, cell in zip(columns, remaining):
                place[column] = None if cell is None else cell.asdict()
        return record

    @staticmethod
    def _texts(cells: tuple[Cell | None, ...], missing: str) -> list[str]:
        return [missing if cell is None else str(cell) for cell in cells]

    def _widened(self, widths: Sequence[int]) -> list[int]:
        """Widen the first column of a group whose heading is longer than its columns."""
        wide, begin = list(widths), 0
        for title, columns in self.groups:
            span = sum(wide[begin : begin + len(columns)]) + 2 * (len(columns) - 1)
            wide[begin] += max(0, _width(title) - span)
            begin += len(columns)
        return wide

    def _headings(self, widths: Sequence[int]) -> list[str]:
        """Return each group's heading, centred over its columns."""
        remaining = iter(widths)
        headings = []
        for title, columns in self.groups:
            # `zip` with the columns first: it would otherwise take one width too many from the iterator.
            span = sum(width for _, width in zip(columns, remaining)) + 2 * (len(columns) - 1)
            headings.append(title.center(span))
        return headings

    def _grouped(self, texts: Sequence[str], widths: Sequence[int]) -> list[str]:
        """Return right-aligned cells, joined group by group."""
        padded = iter([" " * (width - _width(text)) + text for text, width in zip(texts, widths)])
        return ["  ".join(text for _, text in zip(columns, padded)) for _, columns in self.groups]


def recall_table(results: Sequence[EvaluationResult]) -> RecallTable:
    """Arrange results as the papers do; those of one system are repeats and become mean ± standard deviation.

    Raises:
        ValueError: no results, or repeats of one system that have not the same numbers.
    """
    if not results:
        raise ValueError("results: expected at least one")
    by_system: dict[str, list[dict[tuple[str, str], float]]] = {}
    for result in results:
        by_system.setdefault(result.system, []).append(_numbers(result))
    columns = _columns(results)
    rows = []
    for system, repeats in by_system.items():
        if any(set(repeat) != set(repeats[0]) for repeat in repeats):
            raise ValueError(f"system {system!r}: its repeats have different directions or cut-offs")
        cells = [_cell([r[c] for r in repeats]) if c in repeats[0] else None for c in columns]
        rows.append((system, len(repeats), tuple(cells)))
    groups: dict[str, list[str]] = {}
    for title, column in columns:
        groups.setdefault(title, []).append(column)
    return RecallTable(tuple((title, tuple(names)) for title, names in groups.items()), tuple(rows))


def _columns(results: Sequence[EvaluationResult]) -> list[tuple[str, str]]:
    columns: list[tuple[str, str]] = []
    for name in ("t2i", "i2t"):
        ks = sorted({k for r in results if name in r.directions for k in r.directions[name].ks})
        columns += [(name.upper(), f"R@{k}") for k in ks]
    columns.append(("", "MR"))
    if any(result.rsum is not None for result in results):
        columns.append(("", "rsum"))
    return columns


def _numbers(result: EvaluationResult) -> dict[tuple[str, str], float]:
    numbers = {
        (name.upper(), f"R@{k}"): value
        for name, direction in result.directions.items()
        for k, value in direction.recall.items()
    }
    numbers["", "MR"] = result.mean_recall
    if result.rsum is not None:
        numbers["", "rsum"] = result.rsum
    return numbers


def _cell(values: Sequence[float]) -> Cell:
    return Cell(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def _bars(parts: Sequence[str]) -> str:
    return "".join(f" | {part}" for part in parts)


def _width(text: str) -> int:
    """Return the columns that a text takes in a terminal (wide East Asian characters take two)."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))

"""The recall table of the page: which cells there are, which is best, which differs from the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heritage_align.report.model import DIRECTIONS, SystemRow

LEVELS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
"""p-values below these get these marks."""


@dataclass(frozen=True)
class TableCell:
    """One number as it is printed.

    Attributes:
        text: rounded to one decimal; a dash where the system lacks it.
        best: whether it is the best of its column among several systems.
        mark: stars of the p-value, or empty.
        trend: ``"up"`` or ``"down"`` for a marked difference from the baseline.
        title: the test in words, or empty.
        starts: whether a group of columns starts here.
        slot: whether room is kept for a mark, so that the numbers of a column stay below each other.
    """

    text: str
    best: bool = False
    mark: str = ""
    trend: str = ""
    title: str = ""
    starts: bool = False
    slot: bool = False


@dataclass(frozen=True)
class PageTable:
    """Headings ``(title, columns)``, and a row of cells for every system."""

    groups: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[tuple[SystemRow, tuple[TableCell, ...], bool], ...]

    @property
    def tested(self) -> bool:
        """Whether any cell was compared with a baseline."""
        return any(row.tests for row, _, _ in self.rows)


def stars(p_value: float) -> str:
    """Return the mark of a p-value, empty from 0.05 on."""
    return next((mark for level, mark in LEVELS if p_value < level), "")


def duration(seconds: float | None) -> str:
    """Return a time with its unit and two or three significant digits; a dash for None."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        number, unit = seconds * 1000, "ms"
    elif seconds < 599.5:
        number, unit = seconds, "s"
    else:
        number, unit = seconds / 60, "min"
    digits = 2 if number < 0.995 else 1 if number < 9.95 else 0
    return f"{number:.{digits}f} {unit}"


def page_table(systems: Sequence[SystemRow], baseline: str) -> PageTable:
    """Arrange systems as the papers do: recalls by direction, mean recall, rsum, then time."""
    columns: list[tuple[str, int]] = [
        (direction, k)
        for direction in DIRECTIONS
        for k in sorted({k for row in systems for k in row.recall.get(direction, {})})
    ]
    values = {row.name: [row.recall.get(d, {}).get(k) for d, k in columns] for row in systems}
    both = any(row.rsum is not None for row in systems)
    for row in systems:
        values[row.name] += [row.mean_recall, *([row.rsum] if both else [])]
    width = len(columns) + 1 + both
    best = [_best([values[row.name][i] for row in systems]) for i in range(width)]
    starts = {i for i, (d, _) in enumerate(columns) if i == 0 or columns[i - 1][0] != d} | {len(columns)}
    rows = []
    for row in systems:
        cells = []
        for i, value in enumerate(values[row.name]):
            place = columns[i] if i < len(columns) else None
            cells.append(_cell(row, place, value, value is not None and value == best[i], i in starts, baseline))
        for spent in (row.encode_seconds, row.score_seconds):
            cells.append(TableCell(duration(spent), starts=spent is row.encode_seconds))
        rows.append((row, tuple(cells), row.name == baseline))
    groups = [
        (title, tuple(f"R@{k}" for d, k in columns if d == direction))
        for direction, title in DIRECTIONS.items()
        if any(d == direction for d, _ in columns)
    ]
    groups.append(("Both" if both else "Mean", ("MR", "rsum") if both else ("MR",)))
    groups.append(("Time", ("encode", "score")))
    return PageTable(tuple(groups), tuple(rows))


def _best(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return max(there) if len(there) > 1 else None


def _cell(
    row: SystemRow,
    place: tuple[str, int] | None,
    value: float | None,
    best: bool,
    starts: bool,
    baseline: str,
) -> TableCell:
    slot = bool(place and baseline)
    if value is None:
        return TableCell("–", starts=starts, slot=slot)
    test = row.tests.get(place[0], {}).get(f"R@{place[1]}") if place else None
    if test is None:
        return TableCell(f"{value:.1f}", best, starts=starts, slot=slot)
    mark = stars(test.p_value)
    trend = ("up" if test.difference > 0 else "down") if mark else ""
    chance = "p < 0.001" if test.p_value < 0.001 else f"p = {test.p_value:.3f}"
    words = f"{test.difference:+.1f} points against {baseline}, {chance}"
    return TableCell(f"{value:.1f}", best, mark, trend, words, starts, slot)

"""Two models over the same folds, tested twice: the paper's F-test of variances, and a paired test of the recalls."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heritage_align.errors import DataError
from heritage_align.evaluation.cross_validation import FoldResult, compare_folds, summarise
from heritage_align.evaluation.paper_tables import TASKS, PaperTable, task_groups
from heritage_align.evaluation.significance import PairedTest
from heritage_align.evaluation.table import Cell, RecallTable
from heritage_align.evaluation.variance_ratio import VarianceRatio, variance_ratio_test


@dataclass(frozen=True)
class ModelComparison:
    """A proposed model against a baseline.

    Attributes:
        baseline: its name.
        proposed: its name.
        folds: their number.
        variance: direction -> K -> the paper's test of equal variances, which says nothing about means; None where
            neither model varies over the folds.
        paired: direction -> ``"R@K"`` or ``"mean_recall"`` -> the test of equal recalls.
    """

    baseline: str
    proposed: str
    folds: int
    variance: Mapping[str, Mapping[int, VarianceRatio | None]]
    paired: Mapping[str, Mapping[str, PairedTest]]

    @property
    def name(self) -> str:
        """``"SCAN vs. SCAN_GB"``."""
        return f"{self.baseline} vs. {self.proposed}"


def compare_models(
    baseline: Sequence[FoldResult],
    proposed: Sequence[FoldResult],
    *,
    groups: Mapping[str, Hashable] | None = None,
    **settings: Any,
) -> ModelComparison:
    """Test two models on the same folds, both ways.

    Args:
        baseline: its results, one a fold.
        proposed: the other's, on the same folds.
        groups: query -> artwork (`GoldenSet.groups`).
        settings: for the paired test (`compare_folds`).

    Raises:
        DataError: fewer than two folds, or folds that do not fit.
    """
    paired = compare_folds(baseline, proposed, groups=groups, **settings)
    one, two = summarise(baseline), summarise(proposed)
    variance = {
        direction: {k: _variance(values, two.values[direction][k]) for k, values in one.values[direction].items()}
        for direction in paired
    }
    return ModelComparison(one.system, two.system, one.folds, variance, paired)


def _variance(baseline: Sequence[float], proposed: Sequence[float]) -> VarianceRatio | None:
    if len(baseline) > 1 and len({*baseline}) == 1 and len({*proposed}) == 1:
        return None
    return variance_ratio_test(baseline, proposed)


@dataclass(frozen=True)
class _PValue(Cell):
    ratio: VarianceRatio | None = None

    def asdict(self) -> dict[str, Any]:
        return {"p_value": self.mean} if self.ratio is None else self.ratio.asdict()

    def __str__(self) -> str:
        return "<0.001" if self.mean < 0.001 else f"{self.mean:.3f}"


@dataclass(frozen=True)
class _Difference(Cell):
    def asdict(self) -> dict[str, Any]:
        return {"difference": self.mean}

    def __str__(self) -> str:
        # Adding 0 turns the -0.0 of a tiny negative difference into 0.0.
        return f"{round(self.mean, 1) + 0.0:+.1f}"


def p_value_paper_table(sections: Mapping[str, Sequence[ModelComparison]], *, caption: str = "") -> PaperTable:
    """Arrange comparisons as Table 5, in three rows each.

    - ``F-test of variances``: the paper's p, one-sided, in the reading that its Table 5 admits
      (`VarianceRatio.p_baseline`; the JSON has the whole test). **No evidence about means.**
    - ``difference``: proposed minus baseline over the pooled queries, in percentage points.
    - ``paired p``: two-sided, for that difference. Not corrected for the number of tests in the table.

    Args:
        sections: heading (a data set; may be empty) -> comparisons.
        caption: what the table shows.

    Raises:
        DataError: a section without comparisons.
    """
    tables = []
    for heading, comparisons in sections.items():
        if not comparisons:
            raise DataError(f"section {heading!r}: expected at least one comparison")
        columns = [
            (direction, k)
            for direction in TASKS
            for k in sorted({k for c in comparisons for k in c.variance.get(direction, {})})
        ]
        rows = []
        for comparison in comparisons:
            cells = [_cells(comparison, direction, k) for direction, k in columns]
            for what, row in zip(("F-test of variances", "difference", "paired p"), zip(*cells)):
                rows.append((f"{comparison.name}: {what}", comparison.folds, row))
        tables.append((heading, RecallTable(task_groups(columns), tuple(rows), "comparison")))
    return PaperTable(caption, tuple(tables))


def _cells(comparison: ModelComparison, direction: str, k: int) -> tuple[Cell | None, Cell | None, Cell | None]:
    test = comparison.paired.get(direction, {}).get(f"R@{k}")
    ratio = comparison.variance.get(direction, {}).get(k)
    return (
        None if ratio is None else _PValue(ratio.p_baseline, ratio=ratio),
        None if test is None else _Difference(test.difference),
        None if test is None else _PValue(test.p_value),
    )

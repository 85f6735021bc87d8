"""What the folds of a cross-validation say together: mean and spread of each recall, and a paired test over queries."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heritage_align.errors import DataError
from heritage_align.evaluation.fragments import FragmentEvaluation
from heritage_align.evaluation.metrics import EvaluationResult, RetrievalResult
from heritage_align.evaluation.ranks import Ranks
from heritage_align.evaluation.significance import PairedTest, compare
from heritage_align.evaluation.table import Cell

FoldResult = EvaluationResult | FragmentEvaluation
Recalls = Mapping[str, Mapping[int, tuple[float, ...]]]


@dataclass(frozen=True)
class CrossValidationSummary:
    """One system over the folds, every fold with the same weight as in the paper.

    Attributes:
        system: its name.
        folds: their number.
        values: direction -> K -> the recall of every fold, in percent.
        queries: direction -> the number of queries of every fold.
        chance: as `values`, for a random order; None where a fold does not say.
    """

    system: str
    folds: int
    values: Recalls
    queries: Mapping[str, tuple[int, ...]]
    chance: Recalls | None = None

    def recall(self, direction: str, k: int) -> Cell | None:
        """Return mean and sample standard deviation (n - 1) over the folds; None where it was not measured."""
        return spread(self.values.get(direction, {}).get(k))

    def asdict(self) -> dict[str, Any]:
        """Return the numbers, JSON-ready."""
        record: dict[str, Any] = {"system": self.system, "folds": self.folds}
        for direction, recalls in self.values.items():
            levels = (self.chance or {}).get(direction, {})
            record[direction] = {
                "queries": list(self.queries[direction]),
                **{f"R@{k}": _numbers(values, levels.get(k)) for k, values in recalls.items()},
            }
        return record


def summarise(results: Sequence[FoldResult]) -> CrossValidationSummary:
    """Summarise one system's results, one a fold.

    Raises:
        DataError: no results, several systems, or folds with different directions or cut-offs.
    """
    plain = _plain(results)
    directions = {name: d.ks for name, d in plain[0].directions.items()}
    chances = [r.chance for r in results if isinstance(r, FragmentEvaluation)]
    return CrossValidationSummary(
        plain[0].system,
        len(plain),
        {name: {k: tuple(r.directions[name].recall[k] for r in plain) for k in ks} for name, ks in directions.items()},
        {name: tuple(len(r.directions[name].ranks.query_ids) for r in plain) for name in directions},
        {name: {k: tuple(c[name][k] for c in chances) for k in ks} for name, ks in directions.items()}
        if len(chances) == len(plain)
        else None,
    )


def pool_folds(results: Sequence[FoldResult]) -> EvaluationResult:
    """Join the queries of all folds, each named ``<fold>/<query>``: a phrase may be a query of several folds.

    The recalls of the pool weigh queries equally, not folds; with folds of unequal size they differ a little from the
    mean over folds.

    Raises:
        DataError: as `summarise`.
    """
    plain = _plain(results)
    return EvaluationResult(
        plain[0].system, **{name: _joined([r.directions[name] for r in plain]) for name in plain[0].directions}
    )


def compare_folds(
    a: Sequence[FoldResult],
    b: Sequence[FoldResult],
    *,
    groups: Mapping[str, Hashable] | None = None,
    **settings: Any,
) -> dict[str, dict[str, PairedTest]]:
    """Test whether two systems' recalls differ, over the queries of all folds (`significance.compare`).

    Both systems answer the same queries, so their differences per query are tested, and artworks are flipped as a
    whole: queries of one artwork, and of one phrase in several folds, are not independent evidence. With four folds
    nothing can be said from the fold means alone: four sign patterns in favour have p = 1/8.

    Args:
        a: one system's results, one a fold.
        b: the other's, on the same folds.
        groups: query -> artwork (`GoldenSet.groups`); a query without an entry is its own.
        settings: of the test: resamples, seed.

    Returns:
        ``{"t2i": {"R@1": PairedTest, ..., "mean_recall": PairedTest}, ...}``, percentage points, b minus a.

    Raises:
        DataError: different numbers of folds, or queries that differ.
    """
    if len(a) != len(b):
        raise DataError(f"a and b: expected the same folds, got {len(a)} and {len(b)}")
    one, two = pool_folds(a), pool_folds(b)
    labels = None
    if groups is not None:
        queries = [query for direction in one.directions.values() for query in direction.ranks.query_ids]
        labels = {query: groups.get(name, (name,)) for query in queries for name in [query.split("/", 1)[1]]}
    try:
        return compare(one, two, groups=labels, **settings)
    except ValueError as error:
        raise DataError(str(error)) from None


def spread(values: Sequence[float] | None) -> Cell | None:
    """Return mean and sample standard deviation (None for a single value); None for no values."""
    if not values:
        return None
    return Cell(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def _plain(results: Sequence[FoldResult]) -> list[EvaluationResult]:
    plain = [r.result if isinstance(r, FragmentEvaluation) else r for r in results]
    if not plain:
        raise DataError("results: expected one a fold, got none")
    if len(systems := {r.system: None for r in plain}) > 1:
        raise DataError(f"results: folds of one system are summarised, got {', '.join(map(repr, systems))}")
    shapes = [{name: d.ks for name, d in r.directions.items()} for r in plain]
    for fold, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise DataError(f"system {plain[0].system!r}: fold {fold} has recalls {shape}, fold 0 {shapes[0]}")
    return plain


def _joined(directions: Sequence[RetrievalResult]) -> RetrievalResult:
    ranks = [d.ranks for d in directions]
    joined = Ranks(
        tuple(f"{fold}/{query}" for fold, r in enumerate(ranks) for query in r.query_ids),
        np.concatenate([r.first for r in ranks]),
        sum(r.tied for r in ranks),
        sum(r.skipped for r in ranks),
    )
    return replace(directions[0], ranks=joined)


def _numbers(values: Sequence[float], chance: Sequence[float] | None) -> dict[str, Any]:
    cell = spread(values)
    assert cell is not None
    record = {"mean": cell.mean, "std": cell.std, "folds": list(values)}
    return record if chance is None else {**record, "chance": float(np.mean(chance))}

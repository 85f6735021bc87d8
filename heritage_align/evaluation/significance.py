"""Is one system better than another, or were it the queries? A paired test over queries.

Both systems answer the same queries, so the test looks at the difference per query. The papers of the field compare
recalls by eye; with 1,145 queries one standard error of R@1 near 25 % is 1.3 points.

Randomisation (Fisher; Smucker, Allan and Carterette 2007): were the systems exchangeable, each difference could as well
have the other sign. p is the share of sign patterns with a mean difference at least as large, either way.

Captions of one image are no independent queries: name their images as `groups` and whole groups are flipped.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heritage_align.evaluation.metrics import EvaluationResult, RetrievalResult

Array = npt.NDArray[np.float64]
RESAMPLES = 10_000
_BLOCK = 4 * 2**20  # random numbers held at once: 32 MiB of int64
_TOLERANCE = 1e-12  # sums of the same differences in another order are the same value


@dataclass(frozen=True)
class PairedTest:
    """Result of a paired test.

    Attributes:
        difference: mean of b minus mean of a, in the values' unit.
        p_value: two-sided, in (0, 1]; never 0 from random resamples, whose number limits what can be said.
        n: units that were flipped: groups, or queries where there are none.
        method: ``"randomisation"`` or ``"randomisation (exact)"``.
    """

    difference: float
    p_value: float
    n: int
    method: str


def paired_randomisation(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedTest:
    """Sign-flip test of the mean difference; exact where all sign patterns are at most `resamples`.

    Args:
        a: ``(n_queries,)`` values of one system, for example hits at 10.
        b: ``(n_queries,)`` values of the other for the same queries in the same order.
        groups: ``n_queries`` labels of queries that belong together, for example their image ids.
        resamples: random sign patterns.
        seed: of the random numbers.

    Raises:
        ValueError: lengths that differ, no queries, values that are not finite, or no resamples.
    """
    sums, sizes = _group(*_checked(a, b, resamples), groups)
    total = sums.sum()
    # A difference of 0 has no sign to flip.
    flipped = sums[sums != 0]
    limit = abs(total) - _TOLERANCE * np.abs(sums).sum()
    exact = len(flipped) < 60 and 2 ** len(flipped) <= resamples
    patterns = _all_signs(len(flipped)) if exact else _random_signs(len(flipped), resamples, seed)
    extreme = sum(int(np.count_nonzero(np.abs(signs @ flipped) >= limit)) for signs in patterns)
    if exact:
        p_value = extreme / 2 ** len(flipped)
    else:
        # The observed pattern is one of those that could have come (Phipson and Smyth 2010).
        p_value = (extreme + 1) / (resamples + 1)
    method = "randomisation (exact)" if exact else "randomisation"
    return PairedTest(float(total / sizes.sum()), p_value, len(sums), method)


def compare(
    a: EvaluationResult,
    b: EvaluationResult,
    *,
    groups: Mapping[str, Hashable] | None = None,
    **settings: Any,
) -> dict[str, dict[str, PairedTest]]:
    """Test every recall of two systems, and its mean, in the directions that both have.

    Args:
        a: one system.
        b: the other, on the same queries.
        groups: query id -> group (`Dataset` texts of one image belong together); a query without one is its
            own.
        settings: of `paired_randomisation`: resamples, seed.

    Returns:
        ``{"t2i": {"R@1": PairedTest, ..., "mean_recall": PairedTest}, ...}``, differences in percentage
        points. The tests of one table are several looks at the same data: no correction is made for that.

    Raises:
        ValueError: no common direction, other queries, or other cut-offs.
    """
    return compare_means([a], [b], groups=groups, **settings)


def compare_means(
    a: Sequence[EvaluationResult],
    b: Sequence[EvaluationResult],
    *,
    groups: Mapping[str, Hashable] | None = None,
    **settings: Any,
) -> dict[str, dict[str, PairedTest]]:
    """Test two systems that were repeated, on every query's share of hits over the repeats.

    The unit stays the query: repeats are no further queries, and taking them for such would find differences that are
    not there. What another set of repeats would have given is not in the p-value; the spread over repeats shows it.

    Args:
        a: repeats of one system, at least one.
        b: repeats of the other on the same queries; as many or fewer or more.
        groups: query id -> group, as in `compare`.
        settings: of `paired_randomisation`: resamples, seed.

    Returns:
        What `compare` returns; differences are between means over repeats.

    Raises:
        ValueError: no repeats, no common direction, other queries, or other cut-offs.
    """
    if not a or not b:
        raise ValueError("expected at least one repeat of each system")
    directions = [name for name in a[0].directions if all(name in result.directions for result in (*a, *b))]
    if not directions:
        raise ValueError(f"{a[0].system!r} and {b[0].system!r} have no direction in common")
    results: dict[str, dict[str, PairedTest]] = {}
    for name in directions:
        one = a[0].directions[name]
        for result in (*a, *b):
            other = result.directions[name]
            if one.ks != other.ks:
                raise ValueError(f"{name}: cut-offs differ, {list(one.ks)} and {list(other.ks)}")
            if set(one.ranks.query_ids) != set(other.ranks.query_ids):
                systems = f"{a[0].system!r} and {result.system!r}"
                raise ValueError(f"{name}: {systems} were not evaluated on the same queries")
        queries = one.ranks.query_ids
        labels = None if groups is None else [groups.get(query, (query,)) for query in queries]
        first, second = (_mean_percentages([r.directions[name] for r in repeats], queries) for repeats in (a, b))
        results[name] = {key: paired_randomisation(first[key], second[key], groups=labels, **settings) for key in first}
    return results


def _mean_percentages(repeats: Sequence[RetrievalResult], queries: Sequence[str]) -> dict[str, Array]:
    """Return per cut-off ``(n_queries,)``: 100 times the share of repeats that hit, in the order of `queries`."""
    parts = []
    for repeat in repeats:
        rows = {query: row for row, query in enumerate(repeat.ranks.query_ids)}
        order = np.array([rows[query] for query in queries])
        parts.append({key: values[order] for key, values in _percentages(repeat).items()})
    return {key: np.mean([part[key] for part in parts], axis=0) for key in parts[0]}


def _percentages(direction: RetrievalResult) -> dict[str, Array]:
    hits = {f"R@{k}": 100 * direction.ranks.hits(k) for k in direction.ks}
    return {**hits, "mean_recall": np.mean(list(hits.values()), axis=0)}


def _checked(a: npt.ArrayLike, b: npt.ArrayLike, resamples: int) -> tuple[Array, Array]:
    one, two = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if one.ndim != 1 or one.shape != two.shape or not len(one):
        raise ValueError(f"a, b: expected (n_queries,) of equal length above 0, got {one.shape} and {two.shape}")
    for name, values in (("a", one), ("b", two)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: {np.count_nonzero(~np.isfinite(values))} values are not finite")
    if resamples < 1:
        raise ValueError(f"resamples: expected at least 1, got {resamples}")
    return one, two


def _group(a: Array, b: Array, groups: Sequence[Hashable] | None) -> tuple[Array, Array]:
    """Return the sum of the differences ``(n_groups,)`` and the number of queries of every group."""
    differences = b - a
    if groups is None:
        return differences, np.ones(len(differences))
    if len(groups) != len(differences):
        raise ValueError(f"groups: expected one label per query, {len(differences)}, got {len(groups)}")
    numbers: dict[Hashable, int] = {}
    labels = np.array([numbers.setdefault(label, len(numbers)) for label in groups])
    sums: Array = np.bincount(labels, weights=differences).astype(np.float64)
    sizes: Array = np.bincount(labels).astype(np.float64)
    return sums, sizes


def _all_signs(n: int) -> Iterator[Array]:
    """Yield every pattern of n signs, in blocks ``(patterns, n)``: the bits of the numbers below 2 ** n."""
    begin = 0
    for count in _blocks(2**n, n):
        bits = np.arange(begin, begin + count)[:, None] >> np.arange(n) & 1
        yield 2 * bits.astype(np.float64) - 1
        begin += count


def _random_signs(n: int, patterns: int, seed: int) -> Iterator[Array]:
    rng = np.random.default_rng(seed)
    for count in _blocks(patterns, n):
        yield 2 * rng.integers(0, 2, (count, n), dtype=np.int8).astype(np.float64) - 1


def _blocks(resamples: int, n: int) -> Iterator[int]:
    """Split `resamples` into counts whose ``count * n`` random numbers fit a block."""
    step = max(1, _BLOCK // max(1, n))
    for begin in range(0, resamples, step):
        yield min(step, resamples - begin)

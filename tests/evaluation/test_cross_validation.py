"""Mean, spread and the paired test over folds, against hand-computed numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from heritage_align.errors import DataError
from heritage_align.evaluation.cross_validation import compare_folds, pool_folds, summarise
from heritage_align.evaluation.fragments import evaluate_fragment_scores
from heritage_align.evaluation.metrics import EvaluationResult, RetrievalResult
from heritage_align.evaluation.ranks import Ranks
from heritage_align.evaluation.variance_ratio import variance_ratio_test


def fold(system: str, hits: str, names: str = "", ks: tuple[int, ...] = (1, 5)) -> EvaluationResult:
    """Search results, one letter a query: ``1`` found first, ``5`` among five, ``-`` missed."""
    ranks = [{"1": 1.0, "5": 4.0, "-": np.inf}[letter] for letter in hits]
    queries = tuple(names or (f"q{n}" for n in range(len(hits))))
    return EvaluationResult(system, t2i=RetrievalResult(Ranks(queries, np.array(ranks), tied=1), ks))


def test_mean_and_spread_by_hand() -> None:
    summary = summarise([fold("scan", "11--"), fold("scan", "1-"), fold("scan", "1115")])
    # R@1: 50, 50, 75: mean 58.33, squared deviations 69.44, 69.44, 277.78, sum 416.67, over 2.
    assert summary.values["t2i"][1] == (50, 50, 75)
    cell = summary.recall("t2i", 1)
    assert cell is not None
    assert (cell.mean, cell.std) == (pytest.approx(175 / 3), pytest.approx(np.sqrt(416.6667 / 2), rel=1e-5))
    assert summary.queries["t2i"] == (4, 2, 4)
    assert (summary.folds, summary.chance, summary.recall("i2t", 1)) == (3, None, None)
    record = json.loads(json.dumps(summary.asdict()))
    assert record["t2i"]["R@5"]["folds"] == [50, 50, 100]


def test_one_fold_has_no_spread() -> None:
    cell = summarise([fold("scan", "1-")]).recall("t2i", 1)
    assert cell is not None
    assert (cell.mean, cell.std) == (50, None)
    with pytest.raises(DataError, match="at least 2 folds"):
        variance_ratio_test(*[summarise([fold("scan", "1-")]).values["t2i"][1]] * 2)


def test_chance_is_averaged_over_folds() -> None:
    folds = [evaluate_fragment_scores(torch.eye(n), [{c} for c in range(n)], ks=(1,), system="s") for n in (2, 4)]
    summary = summarise(folds)
    assert summary.chance == {"t2i": {1: (50, 25)}, "i2t": {1: (50, 25)}}
    assert summary.asdict()["i2t"]["R@1"] == {"mean": 100, "std": 0, "folds": [100, 100], "chance": 37.5}
    assert summarise([folds[0], folds[1].result]).chance is None


def test_pooled_queries_keep_their_fold() -> None:
    pooled = pool_folds([fold("scan", "1-", "ab"), fold("scan", "1", "a")])
    assert pooled.t2i is not None
    assert pooled.t2i.ranks.query_ids == ("0/a", "0/b", "1/a")
    assert pooled.t2i.recall == {1: pytest.approx(200 / 3), 5: pytest.approx(200 / 3)}
    assert pooled.t2i.ranks.tied == 2


def test_paired_test_over_folds_is_exact_by_hand() -> None:
    a = [fold("scan", "---", "abc"), fold("scan", "-1", "ab")]
    b = [fold("gb", "11-", "abc"), fold("gb", "11", "ab")]
    # Queries that change: 0/a, 0/b, 1/a. With a = x, b = y: x gains 0/a and 1/a.
    tests = compare_folds(a, b, groups={"a": "x", "b": "y"})
    assert tests["t2i"]["R@1"].difference == pytest.approx(60)
    assert tests["t2i"]["R@1"].n == 3
    # Sums 200, 100 (the 100 of b, unchanged in fold 1): |±2 ±1| is 3 in 2 of 4 patterns.
    assert tests["t2i"]["R@1"].p_value == 0.5
    # As queries of their own three gain: all three the same way in 2 of 8 patterns.
    assert compare_folds(a, b)["t2i"]["R@1"].p_value == 0.25


def test_the_paired_test_sees_what_fold_means_hide() -> None:
    """Folds of different difficulty: the variances are equal, and each query says the same."""
    a = [fold("a", "1" * (10 * n) + "-" * (60 - 10 * n)) for n in range(4)]
    b = [fold("b", "1" * (10 * n + 8) + "-" * (52 - 10 * n)) for n in range(4)]
    assert compare_folds(a, b)["t2i"]["R@1"].p_value < 0.001
    values = [summarise(results).values["t2i"][1] for results in (a, b)]
    assert variance_ratio_test(*values).p_value == pytest.approx(0.5)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(DataError, match="expected one a fold, got none"):
        summarise([])
    with pytest.raises(DataError, match="folds of one system are summarised, got 'a', 'b'"):
        summarise([fold("a", "1"), fold("b", "1")])
    with pytest.raises(DataError, match="'a': fold 1 has recalls"):
        summarise([fold("a", "1"), fold("a", "1", ks=(1,))])
    with pytest.raises(DataError, match="expected the same folds, got 1 and 2"):
        compare_folds([fold("a", "1")], [fold("b", "1")] * 2)
    with pytest.raises(DataError, match="'a' and 'b' were not evaluated on the same queries"):
        compare_folds([fold("a", "1", "x")], [fold("b", "1", "y")])

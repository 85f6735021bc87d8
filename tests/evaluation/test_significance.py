"""The test keeps its error rates: about 5 % false alarms, and it sees what is there."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy import stats

from heritage_align.evaluation.metrics import EvaluationResult, evaluate_scores
from heritage_align.evaluation.significance import compare, paired_randomisation
from heritage_align.types import TextItem

TRIALS = 400


def false_alarms(draw: Callable[[np.random.Generator], dict[str, object]]) -> float:
    """Return the share of `TRIALS` draws without a true difference that the test calls significant at 5 %."""
    rng = np.random.default_rng(7)
    return sum(paired_randomisation(**draw(rng), resamples=499, seed=i).p_value <= 0.05 for i in range(TRIALS)) / TRIALS


def hits(rng: np.random.Generator, n: int = 80, shift: float = 0.0) -> dict[str, object]:
    """Hits of two systems on the same queries, difficult ones difficult for both."""
    difficulty = rng.beta(1, 1, n)
    return {
        "a": (rng.random(n) < difficulty).astype(float),
        "b": (rng.random(n) < np.clip(difficulty + shift, 0, 1)).astype(float),
    }


# Of 400 trials at 5 % a share between 2 % and 8.5 % comes with probability 0.997.
def test_about_one_in_twenty_true_nulls_is_called_significant() -> None:
    assert 0.02 <= false_alarms(hits) <= 0.085


def test_a_difference_is_seen() -> None:
    rng = np.random.default_rng(3)
    found = [paired_randomisation(**hits(rng, n=400, shift=0.25), resamples=499, seed=i) for i in range(50)]
    assert np.mean([t.p_value <= 0.05 for t in found]) > 0.95
    assert all(t.difference > 0 for t in found)


def doubled(rng: np.random.Generator) -> dict[str, object]:
    """Every query five times, as five captions that mean the same."""
    return {key: np.repeat(np.asarray(value), 5) for key, value in hits(rng, 40).items()}


def test_groups_keep_dependent_queries_from_looking_like_evidence() -> None:
    labels = np.repeat(np.arange(40), 5).tolist()
    assert false_alarms(doubled) > 0.25
    assert 0.015 <= false_alarms(lambda rng: {**doubled(rng), "groups": labels}) <= 0.1


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_randomisation_is_exact_for_few_queries(n: int) -> None:
    differences = np.random.default_rng(n).integers(-3, 4, n).astype(float)
    flips = [abs(np.dot(signs, differences)) for signs in product([-1, 1], repeat=n)]
    expected = np.mean(np.array(flips) >= abs(differences.sum()) - 1e-9)
    result = paired_randomisation(np.zeros(n), differences)
    assert result.method == "randomisation (exact)"
    assert result.p_value == pytest.approx(expected)
    assert result.difference == pytest.approx(differences.mean())


def test_randomisation_of_hits_is_the_sign_test() -> None:
    """For 0/1 values the sign-flip test is the exact binomial test of wins against losses (McNemar)."""
    a, b = np.zeros(60), np.zeros(60)
    b[:14], a[14:20] = 1, 1
    expected = stats.binomtest(14, 20, 0.5).pvalue
    assert paired_randomisation(a, b, resamples=2**20).p_value == pytest.approx(expected)
    assert paired_randomisation(a, b, resamples=20_000).p_value == pytest.approx(expected, abs=0.01)


def test_equal_systems_have_p_one() -> None:
    values = np.random.default_rng(0).random(30)
    result = paired_randomisation(values, values)
    assert (result.difference, result.p_value) == (0, 1)


def test_seeded_two_sided_and_independent_of_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = hits(np.random.default_rng(1), 50, 0.2)
    one = paired_randomisation(**sample, seed=4)
    assert paired_randomisation(**sample, seed=4) == one
    assert paired_randomisation(**sample, seed=5) != one
    swapped = paired_randomisation(sample["b"], sample["a"], seed=4)
    assert swapped.difference == -one.difference
    assert swapped.p_value == pytest.approx(one.p_value, abs=0.01)
    monkeypatch.setattr("heritage_align.evaluation.significance._BLOCK", 64)
    assert paired_randomisation(**sample, seed=4).p_value == pytest.approx(one.p_value, abs=0.01)


def test_uneven_groups_weigh_their_queries() -> None:
    result = paired_randomisation([0, 0, 0], [1, 1, 4], groups=["x", "x", "y"])
    assert result.difference == pytest.approx(2)
    assert result.n == 2
    assert result.p_value == 0.5  # sums 2 and 4: |±2 ±4| is 6 in 2 of 4 patterns


def evaluated(system: str, noise: float) -> EvaluationResult:
    rng = np.random.default_rng(5)
    scores = np.eye(60).repeat(2, axis=1) + noise * rng.normal(size=(60, 120))
    texts = [TextItem(f"t{j}", "x", (f"i{j // 2}",)) for j in range(120)]
    return evaluate_scores(scores, [f"i{i}" for i in range(60)], texts, system=system)


def test_compare_tests_every_column() -> None:
    good, bad = evaluated("good", 0.2), evaluated("bad", 1.0)
    groups = {f"t{j}": f"i{j // 2}" for j in range(120)}
    tests = compare(bad, good, groups=groups, resamples=999, seed=1)
    assert list(tests) == ["t2i", "i2t"]
    assert list(tests["t2i"]) == ["R@1", "R@5", "R@10", "mean_recall"]
    assert good.t2i is not None
    assert bad.t2i is not None
    assert tests["t2i"]["R@1"].difference == pytest.approx(good.t2i.recall[1] - bad.t2i.recall[1])
    assert tests["t2i"]["mean_recall"].difference == pytest.approx(good.t2i.mean_recall - bad.t2i.mean_recall)
    assert tests["t2i"]["R@1"].p_value < 0.01
    assert tests["t2i"]["R@1"].n == 60
    assert tests["i2t"]["R@1"].n == 60


def test_compare_aligns_queries_and_refuses_others() -> None:
    scores = np.random.default_rng(0).normal(size=(4, 4))
    texts = [TextItem(f"t{j}", "x", (f"i{j}",)) for j in range(4)]
    images = [f"i{j}" for j in range(4)]
    one = evaluate_scores(scores, images, texts, system="one")
    reversed_order = evaluate_scores(scores[:, ::-1], images, texts[::-1], system="reversed_order")
    assert compare(one, reversed_order)["t2i"]["mean_recall"].p_value == 1
    assert compare(one, reversed_order)["t2i"]["R@1"].difference == 0
    fewer = evaluate_scores(scores[:3, :3], images[:3], texts[:3], system="fewer")
    with pytest.raises(ValueError, match="'one' and 'fewer' were not evaluated on the same queries"):
        compare(one, fewer)
    with pytest.raises(ValueError, match="cut-offs differ"):
        compare(one, evaluate_scores(scores, images, texts, ks=(1,)))
    with pytest.raises(ValueError, match="no direction in common"):
        compare(EvaluationResult("x", t2i=one.t2i), EvaluationResult("y", i2t=one.i2t))


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3,\)"):
        paired_randomisation([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="above 0"):
        paired_randomisation([], [])
    with pytest.raises(ValueError, match="b: 1 values are not finite"):
        paired_randomisation([1, 2], [1, np.inf])
    with pytest.raises(ValueError, match="one label per query, 2, got 1"):
        paired_randomisation([1, 2], [1, 2], groups=["a"])
    with pytest.raises(ValueError, match="resamples"):
        paired_randomisation([1, 2], [1, 2], resamples=0)

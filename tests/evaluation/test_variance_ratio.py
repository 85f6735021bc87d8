"""The paper's F-test against its example, an integral by hand and its own blind spot."""

from __future__ import annotations

import json

import numpy as np
import pytest

from heritage_align.errors import DataError
from heritage_align.evaluation.significance import paired_randomisation
from heritage_align.evaluation.variance_ratio import variance_ratio_test


def with_variance(variance: float, mean: float = 40.0) -> list[float]:
    """Four values with this sample variance: deviations of ±d have 4 d² / 3."""
    d = np.sqrt(3 * variance / 4)
    return [mean - d, mean + d, mean - d, mean + d]


def test_the_papers_example() -> None:
    """SCAN and SCAN_GB, image search, Chinese, recall@10: variances 8.0 and 0.7, p reported as 0.03."""
    test = variance_ratio_test(with_variance(8.0, 43.5), with_variance(0.7, 44.2))
    assert test.variances == (pytest.approx(8.0), pytest.approx(0.7))
    assert test.df == (3, 3)
    assert test.f == pytest.approx(11.43, abs=0.005)
    assert test.p_value == pytest.approx(0.038, abs=0.0005)
    assert test.p_baseline == test.p_value


def test_two_degrees_of_freedom_by_hand() -> None:
    """For df (2, 2) the density is 1 / (1 + x)², so that P(F >= f) = 1 / (1 + f)."""
    test = variance_ratio_test([0, 1, 2], [0, 2, 4])
    assert (test.variances, test.f) == ((1, 4), 4)
    assert test.p_value == pytest.approx(1 / 5)
    assert test.p_baseline == pytest.approx(1 / (1 + 1 / 4))


def test_four_folds_by_hand() -> None:
    """df (3, 3): with x = f / (1 + f), P(F <= f) = 2/pi (asin(sqrt x) - sqrt(x (1 - x)) (1 - 2 x)); f = 4, x = 0.8:
    2/pi (1.10715 + 0.24) = 0.85762."""
    assert variance_ratio_test(with_variance(4.0), with_variance(1.0)).p_value == pytest.approx(1 - 0.85762, abs=1e-5)


def test_the_order_matters_only_for_the_fixed_reading() -> None:
    one, two = with_variance(3.0), with_variance(1.0)
    forward, backward = variance_ratio_test(one, two), variance_ratio_test(two, one)
    assert forward.p_value == pytest.approx(backward.p_value)
    assert forward.p_baseline + backward.p_baseline == pytest.approx(1)
    assert variance_ratio_test(one, one).p_value == pytest.approx(0.5)


def test_error_rate_under_equal_variances() -> None:
    """The larger over the smaller is chosen after looking: at 0.05 it rejects twice as often as it says."""
    rng = np.random.default_rng(0)
    tests = [variance_ratio_test(*rng.normal(40, 2, (2, 4))) for _ in range(2000)]
    # Binomial, 2000 draws: standard deviations 0.7 and 0.5 points.
    assert np.mean([t.p_value <= 0.05 for t in tests]) == pytest.approx(0.10, abs=0.02)
    assert np.mean([t.p_baseline <= 0.05 for t in tests]) == pytest.approx(0.05, abs=0.015)


def test_it_is_blind_to_means() -> None:
    """A model that is worse by 30 points in every fold gets the p of one that is as good."""
    good, bad = with_variance(2.0, 60), with_variance(2.0, 30)
    assert variance_ratio_test(good, bad).p_value == pytest.approx(0.5)
    assert paired_randomisation(np.repeat(good, 10), np.repeat(bad, 10)).p_value < 0.01


def test_a_model_that_does_not_vary() -> None:
    test = variance_ratio_test([1, 2, 3], [5, 5, 5])
    assert (test.f, test.p_value) == (np.inf, 0)
    assert json.loads(json.dumps(test.asdict()))["f"] is None
    assert variance_ratio_test([5, 5, 5], [1, 2, 3]).p_baseline == 1


@pytest.mark.parametrize(
    ("baseline", "proposed", "message"),
    [
        ([1.0], [1.0, 2.0], r"baseline: a variance needs the values of at least 2 folds, got shape \(1,\)"),
        ([1.0, 2.0], [1.0, np.nan], "proposed: 1 of 2 values are not finite"),
        ([1.0, 1.0], [2.0, 2.0], "neither varies over the folds"),
    ],
)
def test_what_has_no_ratio_is_refused(baseline: list[float], proposed: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        variance_ratio_test(baseline, proposed)

"""How unlikely it is that keypoints agree by accident: hand-computed, against exact sums, and with real accidents."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from heritage_align_plugins.sift.chance import significance
from heritage_align_plugins.sift.matching import Keypoints, Matches, agreed
from hypothesis import given
from hypothesis import strategies as st


def reference(agree: int, pairs: int, share: Fraction) -> Fraction:
    """Return the number of accidents, as the formula is written."""
    others = pairs - 2
    tail = sum(
        (math.comb(others, count) * share**count * (1 - share) ** (others - count))
        for count in range(agree - 2, others + 1)
    )
    return Fraction(pairs * (pairs - 1), 2) * tail


@pytest.mark.parametrize(
    ("agree", "pairs", "share", "accidents"),
    [
        (3, 4, 0.5, 4.5),  # 6 transforms, with each of which one of two others agrees: 1 - 1/4
        (3, 3, 0.01, 0.03),  # 3 transforms, the third point within a hundredth of the picture
        (4, 4, 0.1, 0.06),  # 6 times a hundredth
        (2, 10, 0.2, 45.0),  # two pairs agree with their own transform whatever they are
        (5, 5, 1.0, 10.0),
        (5, 5, 7.0, 10.0),
    ],
)
def test_it_is_what_a_hand_computes(agree: int, pairs: int, share: float, accidents: float) -> None:
    assert significance(agree, pairs, share) == pytest.approx(-math.log10(accidents))


@given(
    agree=st.integers(2, 40),
    more=st.integers(0, 40),
    share=st.fractions(Fraction(1, 1000), Fraction(999, 1000), max_denominator=1000),
)
def test_it_is_the_exact_sum(agree: int, more: int, share: Fraction) -> None:
    exact = reference(agree, agree + more, share)
    assert significance(agree, agree + more, float(share)) == pytest.approx(-math.log10(exact), abs=1e-9)


@given(pairs=st.integers(3, 600), share=st.floats(1e-6, 0.5))
def test_more_that_agree_are_less_of_an_accident(pairs: int, share: float) -> None:
    found = [significance(agree, pairs, share) for agree in range(2, pairs + 1)]
    assert all(math.isfinite(value) for value in found)
    assert np.diff(found).min() >= -1e-9


def test_hundreds_that_agree_are_a_number() -> None:
    assert significance(600, 600, 1e-6) == pytest.approx(598 * 6 - math.log10(600 * 599 / 2))


def test_accidents_are_as_rare_as_it_says() -> None:
    """Matches of points that lie anywhere, of any size and direction: no more than one of 10^s scores s."""
    draws, scores, tolerance, side = np.random.default_rng(0), [], 5.0, 400.0
    for _ in range(400):
        count = int(draws.integers(5, 40))
        here, there = (draws.uniform(0, length, count) + 1j * draws.uniform(0, length, count) for length in (100, side))
        frames = draws.uniform(0.5, 2, count) * np.exp(1j * draws.uniform(0, 7, count))
        descriptors = np.zeros((count, 128), np.float32)
        own, other = Keypoints(here, np.ones(count, complex), descriptors), Keypoints(there, frames, descriptors)
        fit = agreed(own, other, Matches(*[np.arange(count)] * 2), tolerance)
        near = math.pi * (tolerance * abs(fit.factor)) ** 2
        scores.append(significance(fit.agree, fit.pairs, near / side**2) if fit.agree else 0.0)
    for least in (0.5, 1.0, 1.5, 2.0):
        assert np.mean(np.array(scores) >= least) <= 10**-least
    assert max(scores) > 0  # some do agree

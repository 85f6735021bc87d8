"""The subsequence kernel against its definition, and the clusters that it makes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heritage_align.text import cluster_phrases, longest, phrase_similarity, subsequence_kernel

DOUCAI = (
    "straight-sided bowl",
    "straight-sided bowl with underglaze blue",
    "bowl with underglaze blue",
    "underglaze blue",
    "overglaze enamels",
    "overglaze enamels in ‘doucai’",
    "enamels in ‘doucai’",
)
"""The seven phrases of Sheng et al. 2021, section 4.2."""


def by_definition(s: str, t: str, order: int, decay: float) -> float:
    """Sum over every pair of places where the same letters stand (Lodhi et al. 2002, definition 1)."""
    return sum(
        decay ** (i[-1] - i[0] + 1 + j[-1] - j[0] + 1)
        for i in combinations(range(len(s)), order)
        for j in combinations(range(len(t)), order)
        if [s[k] for k in i] == [t[k] for k in j]
    )


def test_the_example_of_lodhi_et_al() -> None:
    """Section 2: cat, car, bat, bar at order 2: K(car, cat) = d^4, K(car, car) = 2 d^4 + d^6."""
    assert subsequence_kernel("car", "cat", 2, 0.5) == pytest.approx(0.5**4)
    assert subsequence_kernel("car", "car", 2, 0.5) == pytest.approx(2 * 0.5**4 + 0.5**6)
    assert subsequence_kernel("car", "bat", 2, 0.5) == 0.0


@settings(deadline=None)
@given(
    st.text("ab龙", max_size=7), st.text("ab龙", max_size=7), st.integers(1, 4), st.sampled_from([0.25, 0.5, 0.9, 1.0])
)
def test_kernel_equals_its_definition(s: str, t: str, order: int, decay: float) -> None:
    assert subsequence_kernel(s, t, order, decay) == pytest.approx(by_definition(s, t, order, decay), rel=1e-12)


def test_similarity_by_hand() -> None:
    """With a blank at either end, at order 3: ' a ' spans 3 letters in itself and 4 in ' ab ', which gives d^6 and d^7;
    ' ab ' holds ' ab' and 'ab ' without a gap, ' a ' and ' b ' with one: 2 d^6 + 2 d^8 with itself."""
    raw = 0.5**7
    own = 2 * 0.5**6 + 2 * 0.5**8
    similar = phrase_similarity(["a", "AB", " a\n"], order=3, decay=0.5)
    assert similar[0, 1] == pytest.approx(raw / np.sqrt(0.5**6 * own))
    assert similar[0, 2] == 1.0
    np.testing.assert_array_equal(similar, similar.T)
    np.testing.assert_array_equal(np.diag(similar), 1.0)


def test_phrases_shorter_than_the_order_are_like_themselves_alone() -> None:
    assert phrase_similarity(["龙", "凤", "龙"], order=4).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


@settings(deadline=None)
@given(st.lists(st.text("ab 龙凤", min_size=1, max_size=6), max_size=5), st.integers(1, 3))
def test_similarity_is_a_normalised_kernel(phrases: list[str], order: int) -> None:
    similar = phrase_similarity(phrases, order)
    assert similar.shape == (len(phrases), len(phrases))
    assert ((similar >= 0) & (similar <= 1)).all()
    assert np.linalg.eigvalsh(similar).min(initial=0.0) > -1e-9


def test_the_phrases_of_the_paper_fall_into_two_clusters() -> None:
    for threshold in (0.4, 0.5, 0.6, 0.7):
        assert cluster_phrases(DOUCAI, threshold) == [[0, 1, 2, 3], [4, 5, 6]]
    assert [DOUCAI[longest(DOUCAI, c)] for c in cluster_phrases(DOUCAI)] == [
        "straight-sided bowl with underglaze blue",
        "overglaze enamels in ‘doucai’",
    ]


def test_chinese_phrases_that_share_a_word_are_one_cluster() -> None:
    assert cluster_phrases(["蓝色龙", "蓝色龙纹", "红色牡丹", "牡丹"]) == [[0, 1], [2, 3]]


def test_ends_of_the_threshold() -> None:
    assert cluster_phrases(["red crane", "lotus", "red crane"], threshold=1.0) == [[0, 2], [1]]
    assert cluster_phrases(["red crane", "lotus", "wave"], threshold=0.0) == [[0, 1, 2]]
    assert cluster_phrases([]) == []
    assert cluster_phrases(["鹤"]) == [[0]]


@settings(deadline=None)
@given(st.permutations(range(len(DOUCAI))))
def test_clusters_do_not_depend_on_the_order(order: list[int]) -> None:
    found = cluster_phrases([DOUCAI[i] for i in order])
    assert {frozenset(order[i] for i in cluster) for cluster in found} == {frozenset(range(4)), frozenset({4, 5, 6})}


def test_the_first_of_equally_long_phrases_stands_for_its_cluster() -> None:
    assert longest(["ab", "cd", "e"], [0, 1, 2]) == 0


@pytest.mark.parametrize(("order", "decay"), [(0, 0.5), (2, 0.0), (2, 1.5)])
def test_settings_out_of_range(order: int, decay: float) -> None:
    with pytest.raises(ValueError, match=f"order >= 1 and 0 < decay <= 1, got {order}, {decay}"):
        subsequence_kernel("a", "b", order, decay)

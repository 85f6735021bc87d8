"""Image annotation and image search against hand-computed numbers, a slow obvious reference and simulation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heritage_align.errors import DataError
from heritage_align.evaluation.chance import chance_recall
from heritage_align.evaluation.fragments import FragmentEvaluation, evaluate_fragment_scores, evaluate_fragments
from heritage_align.evaluation.golden import pool_golden
from heritage_align.types import GoldenPair

REGIONS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
PHRASES = torch.tensor([[1.0, 0.0], [0.0, 3.0], [1.0, 0.5], [0.2, 0.2]])
# inner:  f0  2    0    2    0.4      f0 is named by phrase 0 and 3, f1 by 2, f2 by 1 and 2
#         f1  0    3    0.5  0.2
#         f2  1    3    1.5  0.4
RELEVANT = [{0, 3}, {2}, {1, 2}]


def first_ranks(evaluation: FragmentEvaluation, direction: str) -> list[float]:
    return evaluation.result.directions[direction].ranks.first.tolist()


def test_inner_product_by_hand() -> None:
    evaluation = evaluate_fragments(REGIONS, PHRASES, RELEVANT, ks=(1, 2), system="hand")
    assert evaluation.scores.tolist()[2] == [1, 3, 1.5, pytest.approx(0.4)]
    # Annotation: f0 ties phrase 0 (right) with 2 and the first counts; f1: 3, 0.5 (right); f2: 3 (right).
    assert first_ranks(evaluation, "i2t") == [1, 2, 1]
    # Search: phrase 0: f0. 1: f1 and f2 tie at 3, f1 stands first. 2: f0, f2 (right).
    # 3: f0 (right) and f2 tie at 0.4, f0 stands first.
    assert first_ranks(evaluation, "t2i") == [1, 2, 2, 1]
    assert evaluation.result.i2t is not None
    assert evaluation.result.i2t.recall == {1: pytest.approx(200 / 3), 2: 100}
    assert evaluation.result.i2t.ranks.tied == 1
    assert evaluation.result.system == "hand"


def test_cosine_ignores_lengths_and_bears_zeros() -> None:
    phrases = torch.cat([PHRASES, torch.zeros(1, 2)])
    cosine = evaluate_fragments(REGIONS, phrases, RELEVANT, score="cosine")
    assert cosine.scores[2].tolist() == pytest.approx([0.70711, 0.70711, 0.94868, 1, 0], abs=1e-5)
    longer = evaluate_fragments(REGIONS * torch.tensor([[5.0], [0.1], [3.0]]), phrases, RELEVANT, score="cosine")
    assert torch.allclose(cosine.scores, longer.scores)


def test_chance_by_hand() -> None:
    evaluation = evaluate_fragments(REGIONS, PHRASES, RELEVANT, ks=(1, 2, 10))
    # Annotation, 4 phrases: 2, 1, 2 right. At 1: mean of 1/2, 1/4, 1/2; at 2: 1 - 1/6, 1/2, 1 - 1/6.
    assert evaluation.chance["i2t"] == {
        1: pytest.approx(100 * 1.25 / 3),
        2: pytest.approx(100 * (5 / 6 + 1 / 2 + 5 / 6) / 3),
        10: 100,
    }
    # Search, 3 fragments: 1, 1, 2, 1 right.
    assert evaluation.chance["t2i"][1] == pytest.approx(100 * (1 / 3 * 3 + 2 / 3) / 4)
    assert evaluation.asdict()["chance"]["t2i"]["R@10"] == 100


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n), st.integers(1, 9))))
def test_chance_is_the_share_of_all_draws(case: tuple[int, int, int]) -> None:
    """Every set of K candidates is equally likely; those with one of the first r are hits."""
    n, right, k = case
    draws = list(combinations(range(n), min(k, n)))
    expected = 100 * sum(min(draw) < right for draw in draws) / len(draws)
    assert chance_recall([right, 0], n, (k,))[k] == pytest.approx(expected)


def test_random_scores_reach_chance_and_no_more() -> None:
    rng = np.random.default_rng(0)
    relevant = rng.random((40, 60)) < 0.04
    relevant[0, 0] = True
    found: dict[str, list[float]] = {"t2i": [], "i2t": []}
    for _ in range(300):
        evaluation = evaluate_fragment_scores(torch.from_numpy(rng.random((40, 60))), relevant)
        for name, direction in evaluation.result.directions.items():
            found[name].append(direction.recall[10])
    for name, values in found.items():
        # One query of n has a standard deviation of at most 50 points: 300 repeats of about 35 make 0.5.
        assert np.mean(values) == pytest.approx(evaluation.chance[name][10], abs=1.5)


@given(st.integers(0, 10_000))
def test_ranks_equal_a_stable_sort(seed: int) -> None:
    rng = np.random.default_rng(seed)
    relevant = rng.random((5, 6)) < 0.4
    relevant[0, 0] = True
    scores = rng.integers(0, 3, (5, 6)).astype(np.float32)
    evaluation = evaluate_fragment_scores(torch.from_numpy(scores), relevant)

    def reference(rows: np.ndarray, right: np.ndarray) -> list[float]:
        ranks = []
        for row, wanted in zip(rows, right):
            order = sorted(range(len(row)), key=lambda c: -row[c])
            ranks += [min(1 + order.index(c) for c in np.flatnonzero(wanted))] if wanted.any() else []
        return ranks

    assert first_ranks(evaluation, "i2t") == reference(scores, relevant)
    assert first_ranks(evaluation, "t2i") == reference(scores.T, relevant.T)


def test_fragments_without_phrases_are_distractors() -> None:
    relevant = np.array([[True, False], [False, False]])
    evaluation = evaluate_fragment_scores(torch.tensor([[1.0, 0.0], [2.0, 9.0]]), relevant)
    assert first_ranks(evaluation, "t2i") == [2]
    assert first_ranks(evaluation, "i2t") == [1]
    assert evaluation.result.i2t is not None
    assert evaluation.result.i2t.ranks.skipped == 1


def test_forms_of_relevance_agree() -> None:
    matrix = np.zeros((3, 4), dtype=bool)
    for row, columns in enumerate(RELEVANT):
        matrix[row, list(columns)] = True
    records = [evaluate_fragments(REGIONS, PHRASES, r).asdict() for r in (RELEVANT, matrix, torch.from_numpy(matrix))]
    assert records[0] == records[1] == records[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"region_vectors": torch.tensor([[0.0, 1], [np.nan, 0], [np.inf, 0]])},
            "region_vectors: 2 rows.*first is row 1",
        ),
        ({"phrase_vectors": torch.ones(4, 3)}, "region_vectors have 2 dimensions, phrase_vectors 3"),
        ({"phrase_vectors": torch.ones(4)}, r"phrase_vectors: expected \(n, dim\), got shape \(4,\)"),
        ({"relevant": [set(), set(), set()]}, "no golden pairs"),
        ({"relevant": [{0}, {4}, {1}]}, r"relevant\[1\]: 4 is not one of the 4 phrases"),
        ({"relevant": [{0}]}, "the phrases of 3 fragments, got 1"),
        ({"relevant": np.ones((4, 3), dtype=bool)}, r"expected bool \(3, 4\)"),
        ({"relevant": np.ones((3, 4))}, "got float64"),
        ({"score": "dot"}, "expected 'inner' or 'cosine', got 'dot'"),
        ({"phrases": ["a", "b", "a", "c"]}, "phrases: 'a' occurs twice; equal phrases are one candidate"),
        ({"fragment_ids": ["x"]}, "fragment_ids: expected 3, got 1"),
        ({"ks": (5, 1)}, "ks: expected ascending cut-offs"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    arguments = {"region_vectors": REGIONS, "phrase_vectors": PHRASES, "relevant": RELEVANT, **change}
    with pytest.raises(ValueError, match=message):
        evaluate_fragments(**arguments)  # type: ignore[arg-type]


def test_nan_scores_are_refused_by_name() -> None:
    scores = torch.zeros(2, 2)
    scores[1, 0] = torch.nan
    with pytest.raises(DataError, match="1 NaN, the first of fragment 'f1' and phrase 'lotus'"):
        evaluate_fragment_scores(scores, [{0}, {1}], fragment_ids=["f0", "f1"], phrases=["lotus", "crane"])
    with pytest.raises(DataError, match="2 right answers among 1 candidates"):
        chance_recall([2], 1)
    with pytest.raises(DataError, match="no level of chance"):
        chance_recall([0], 1)


PAIRS = [
    GoldenPair("a", (0, 0, 4, 4), ("blue ground", "red lotus")),
    GoldenPair("b", (0, 0, 4, 4), ("blue ground",)),
    GoldenPair("a", (1, 1, 2, 2), ("crane",)),
    GoldenPair("a", (0, 0, 4, 4), ("lotus flower", "red lotus")),
]


def test_phrases_and_boxes_are_pooled() -> None:
    golden = pool_golden(PAIRS)
    assert golden.image_ids == ("a", "b", "a")
    assert golden.fragment_ids == ("a#0", "b#0", "a#1")
    assert golden.phrases == ("blue ground", "red lotus", "crane", "lotus flower")
    assert golden.relevant.astype(int).tolist() == [[1, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0]]
    assert golden.references() == [["blue ground", "red lotus", "lotus flower"], ["blue ground"], ["crane"]]
    assert golden.by_picture().astype(int).tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    groups = golden.groups({"b": "vase"})
    assert [groups[q] for q in ("a#0", "a#1", "b#0", "blue ground", "crane")] == ["a", "a", "vase", "a", "a"]


def test_either_fragment_answers_a_shared_phrase() -> None:
    """Unpooled, the better of two equal "blue ground" columns would be wrong for one of the fragments."""
    golden = pool_golden(PAIRS)
    scores = torch.tensor([[5.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 0, 1, 0]])
    evaluation = evaluate_fragment_scores(scores, golden.relevant, phrases=golden.phrases)
    assert first_ranks(evaluation, "i2t") == [1, 1, 1]
    assert first_ranks(evaluation, "t2i") == [1, 1, 1, 1]


def test_a_selection_keeps_only_its_own_phrases() -> None:
    smaller, rows, columns = pool_golden(PAIRS).select({"b", "elsewhere"})
    assert (smaller.fragment_ids, smaller.phrases) == (("b#0",), ("blue ground",))
    assert (rows.tolist(), columns.tolist()) == ([1], [0])
    with pytest.raises(DataError, match="none of the 1 pictures has a golden pair"):
        pool_golden(PAIRS).select({"elsewhere"})


def test_bad_annotations_are_named() -> None:
    with pytest.raises(DataError, match="'murals' has no golden pairs"):
        pool_golden([], "'murals'")
    with pytest.raises(DataError, match="golden pair 0 of image 'a': expected one or more phrases"):
        pool_golden([GoldenPair("a", (0, 0, 1, 1), ())])
    with pytest.raises(DataError, match="not blank"):
        pool_golden([GoldenPair("a", (0, 0, 1, 1), ("x", " "))])
    with pytest.raises(DataError, match="expected a box"):
        pool_golden([GoldenPair("a", (2, 0, 1, 1), ("x",))])

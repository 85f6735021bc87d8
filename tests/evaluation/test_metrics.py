"""Recall and ranks against hand-computed numbers, a slow obvious reference and ir_measures."""

from __future__ import annotations

import json
from collections.abc import Sequence

import ir_measures
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heritage_align.evaluation import ranks as ranks_module
from heritage_align.evaluation.metrics import EvaluationResult, evaluate_scores
from heritage_align.evaluation.ranks import ranks_from_scores
from heritage_align.types import TextItem

IMAGES = ("i0", "i1", "i2")
TEXTS = (
    TextItem("t0", "x", ("i0",)),
    TextItem("t1", "x", ("i1",)),
    TextItem("t2", "x", ("i0", "i2")),
    TextItem("t3", "x"),
)
#        t0   t1   t2   t3
SCORES = np.array(
    [
        [0.9, 0.8, 0.1, 0.0],  # i0: right are t0 (rank 1) and t2
        [0.5, 0.7, 0.6, 0.9],  # i1: right is t1 (rank 2)
        [0.1, 0.9, 0.3, 0.4],  # i2: right is t2 (rank 3)
    ]
)


def test_hand_computed_in_both_directions() -> None:
    result = evaluate_scores(SCORES, IMAGES, TEXTS, ks=(1, 2), system="hand")
    assert result.t2i is not None
    assert result.i2t is not None
    # t0: i0 first. t1: 0.9 (i2), 0.8 (i0), 0.7 (i1): third. t2: 0.6 (i1), 0.3 (i2, right): second.
    assert result.t2i.ranks.first.tolist() == [1, 3, 2]
    assert result.t2i.ranks.query_ids == ("t0", "t1", "t2")
    assert result.t2i.ranks.skipped == 1
    assert result.i2t.ranks.first.tolist() == [1, 2, 3]
    assert result.t2i.recall == {1: pytest.approx(100 / 3), 2: pytest.approx(200 / 3)}
    assert result.t2i.mean_recall == pytest.approx(50)
    assert (result.t2i.median_rank, result.t2i.mean_rank) == (2, 2)
    assert result.mean_recall == pytest.approx(50)
    assert result.rsum == pytest.approx(200)
    record = json.loads(json.dumps(result.asdict()))
    assert record["t2i"]["R@2"] == pytest.approx(200 / 3)
    assert record["t2i"]["queries"] == 3
    assert record["i2t"]["median_rank"] == 2
    assert record["system"] == "hand"


def test_median_rank_is_scans_for_an_even_number_of_queries() -> None:
    """SCAN's code: floor(median of ranks from 0) + 1; here they are 0 and 3, floor(1.5) + 1 = 2."""
    scores = np.array([[9.0, 8, 7, 6], [9, 8, 7, 6]])
    texts = [TextItem("t0", "x", ("a",)), TextItem("t1", "x", ("b",))]
    result = evaluate_scores(scores.T, ("a", "c", "d", "b"), texts)
    assert result.t2i is not None
    assert result.t2i.median_rank == 2
    assert result.t2i.mean_rank == 2.5


@pytest.mark.parametrize("make", [np.zeros, torch.zeros], ids=["numpy", "torch"])
def test_a_constant_score_gets_the_recall_of_chance(make: type) -> None:
    """Counting only strictly better candidates would give 100 %."""
    texts = [TextItem(str(i), "x", (str(i),)) for i in range(50)]
    result = evaluate_scores(make((50, 50)), [str(i) for i in range(50)], texts)
    assert result.t2i is not None
    assert result.i2t is not None
    for direction in (result.t2i, result.i2t):
        assert direction.recall == {1: pytest.approx(2), 5: pytest.approx(10), 10: pytest.approx(20)}
        assert direction.ranks.tied == 50


def test_a_tie_keeps_the_candidates_order() -> None:
    ranks = ranks_from_scores(np.array([[1.0, 1.0, 1.0, 2.0]] * 3), [[0], [2], [3]], ["a", "b", "c"])
    assert ranks.first.tolist() == [2, 4, 1]
    assert ranks.tied == 2
    # A tie among right answers alone is none that matters.
    assert ranks_from_scores(np.array([[1.0, 1.0, 0.0]]), [[0, 1]], ["a"]).tied == 0


def reference_first_rank(scores: Sequence[float], right: Sequence[int]) -> int:
    """Sort everything, stably, and look where the first right answer is."""
    order = sorted(range(len(scores)), key=lambda candidate: -scores[candidate])
    return 1 + min(order.index(candidate) for candidate in right)


@st.composite
def judged_scores(draw: st.DrawFn) -> tuple[np.ndarray, list[list[int]]]:
    """Few distinct scores, so that ties are the rule; any number of right answers."""
    queries, candidates = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    values = st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 1.0, 3.5])
    scores = draw(
        st.lists(st.lists(values, min_size=candidates, max_size=candidates), min_size=queries, max_size=queries)
    )
    ids = st.lists(st.integers(0, candidates - 1), max_size=4)
    return np.array(scores), draw(st.lists(ids, min_size=queries, max_size=queries))


@given(judged_scores(), st.sampled_from([8, 64, 2**20]))
def test_ranks_equal_the_sorted_reference_whatever_the_block(case: tuple, block_bytes: int) -> None:
    scores, answers = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks_module, "BLOCK_BYTES", block_bytes)
        ranks = ranks_from_scores(scores, answers, [str(q) for q in range(len(scores))])
    expected = {str(q): reference_first_rank(scores[q], right) for q, right in enumerate(answers) if right}
    assert dict(zip(ranks.query_ids, ranks.first)) == expected
    assert ranks.skipped == len(answers) - len(expected)


@settings(deadline=None)
@given(judged_scores(), st.randoms(use_true_random=False))
def test_recall_equals_ir_measures_success(case: tuple, random) -> None:  # type: ignore[no-untyped-def]
    """Success@K of ir_measures, on scores without ties, about whose order every tool agrees."""
    scores, answers = case
    distinct = list(range(scores.size))
    random.shuffle(distinct)
    scores = np.array(distinct, dtype=float).reshape(scores.shape)
    if not any(answers):
        return
    qrels = [ir_measures.Qrel(f"q{q}", f"d{a}", 1) for q, right in enumerate(answers) for a in set(right)]
    run = [ir_measures.ScoredDoc(f"q{q}", f"d{d}", s) for q, row in enumerate(scores) for d, s in enumerate(row)]
    ks = (1, 2, 5, 10)
    expected = ir_measures.calc_aggregate([ir_measures.Success @ k for k in ks], qrels, run)
    texts = [TextItem(f"q{q}", "x", tuple(f"d{a}" for a in right)) for q, right in enumerate(answers)]
    images = [f"d{d}" for d in range(scores.shape[1])]
    result = evaluate_scores(scores.T, images, texts, ks=ks)
    assert result.t2i is not None
    for k in ks:
        assert result.t2i.recall[k] == pytest.approx(100 * expected[ir_measures.Success @ k])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torch_scores_of_any_precision(dtype: torch.dtype) -> None:
    scores = torch.tensor(SCORES).to(dtype).requires_grad_()
    assert evaluate_scores(scores, IMAGES, TEXTS).asdict() == evaluate_scores(SCORES, IMAGES, TEXTS).asdict()


def test_a_lost_picture_does_not_raise_the_score() -> None:
    """Without i1 its caption is a miss, and i1 is a missed query: the denominators stay."""
    full = evaluate_scores(SCORES, IMAGES, TEXTS)
    lost = evaluate_scores(SCORES[[0, 2]], ("i0", "i2"), TEXTS)
    assert lost.t2i is not None
    assert lost.i2t is not None
    assert dict(zip(lost.t2i.ranks.query_ids, lost.t2i.ranks.first)) == {"t0": 1, "t1": np.inf, "t2": 1}
    assert dict(zip(lost.i2t.ranks.query_ids, lost.i2t.ranks.first)) == {"i0": 1, "i2": 3, "i1": np.inf}
    assert lost.t2i.recall[10] < full.t2i.recall[10]  # type: ignore[union-attr]
    assert lost.t2i.mean_rank is None
    assert lost.t2i.median_rank == 1
    assert lost.asdict()["t2i"]["unanswered"] == 1
    json.dumps(lost.asdict(), allow_nan=False)


def test_bad_scores_are_refused() -> None:
    bad = SCORES.copy()
    bad[2, 1] = np.nan
    with pytest.raises(ValueError, match="1 NaN in queries 0 to 3, the first at query 1, candidate 2"):
        evaluate_scores(bad, IMAGES, TEXTS)
    with pytest.raises(ValueError, match=r"\(n_images, n_texts\) = \(3, 4\), got \(4, 3\)"):
        evaluate_scores(SCORES.T, IMAGES, TEXTS)
    with pytest.raises(ValueError, match="an id occurs twice"):
        evaluate_scores(SCORES, ("i0", "i0", "i2"), TEXTS)
    with pytest.raises(ValueError, match=r"answers\[0\]: \[4\] leaves the 4 candidates' range"):
        ranks_from_scores(SCORES, [[4], [0], [0]], IMAGES)
    with pytest.raises(ValueError, match="scores have 3 queries, answers 1 and query_ids 3"):
        ranks_from_scores(SCORES, [[0]], IMAGES)
    with pytest.raises(ValueError, match=r"got shape \(4,\)"):
        ranks_from_scores(SCORES[0], [[0]], IMAGES)
    with pytest.raises(ValueError, match="no query has a right answer"):
        evaluate_scores(SCORES[:, :1], IMAGES, [TextItem("t", "x")])
    with pytest.raises(ValueError, match="at least one direction"):
        EvaluationResult("none")


@pytest.mark.parametrize("ks", [(), (0, 1), (5, 1), (1, 1)])
def test_bad_cut_offs_are_refused(ks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending cut-offs from 1"):
        evaluate_scores(SCORES, IMAGES, TEXTS, ks=ks)

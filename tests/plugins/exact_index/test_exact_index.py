"""Exact search: equal to a full product and a stable sort, whatever the blocks."""

from __future__ import annotations

import pytest
import torch
from heritage_align_plugins.exact_index.config import ExactIndexConfig
from heritage_align_plugins.exact_index.index import ExactIndex, search_resident
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heritage_align.protocols import BuildContext


def full(vectors: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    scores, rows = (queries @ vectors.float().T).sort(dim=1, descending=True, stable=True)
    return rows[:, :k], scores[:, :k]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    n_queries=st.integers(1, 4),
    k=st.integers(1, 60),
    seed=st.integers(0, 2**16),
)
def test_blocks_and_ties_change_nothing(sizes: list[int], n_queries: int, k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Small integers: sums are exact, and equal scores are everywhere.
    blocks = [torch.randint(-1, 2, (n, 3), generator=generator).half() for n in sizes]
    queries = torch.randint(-1, 2, (n_queries, 3), generator=generator).float()
    rows, scores = ExactIndex(ExactIndexConfig(), BuildContext()).search(blocks, queries, k)
    expected_rows, expected_scores = full(torch.cat(blocks), queries, k)
    assert torch.equal(scores, expected_scores)
    assert torch.equal(rows, expected_rows)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 60),
    n_queries=st.integers(0, 4),
    k=st.integers(1, 70),
    piece=st.sampled_from([1, 7, 60]),
    seed=st.integers(0, 2**16),
)
def test_a_resident_matrix_is_searched_piece_by_piece(n: int, n_queries: int, k: int, piece: int, seed: int) -> None:
    # What a GPU does with vectors that it keeps; here on the CPU.
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randint(-1, 2, (n, 3), generator=generator).half()
    queries = torch.randint(-1, 2, (n_queries, 3), generator=generator).float()
    rows, scores = search_resident(vectors, queries, k, piece * 4 * (3 + 6 * max(1, n_queries)))
    expected_rows, expected_scores = full(vectors, queries, k)
    assert torch.equal(scores, expected_scores)
    assert torch.equal(rows, expected_rows)
    with pytest.raises(ValueError, match=r"blocks\[0\]: expected \(n, 3\) as the queries, got"):
        search_resident(vectors[:, :2], queries, k, 100)


def test_tiles_panels_and_batches_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tiles of 5 rows, and room for one tile of scores of five queries, or two of one: borders are crossed many times.
    monkeypatch.setattr("heritage_align_plugins.exact_index.index.TILE_BYTES", 4 * 8 * 5)
    index = ExactIndex(ExactIndexConfig(), BuildContext())
    index._budget = torch.get_num_threads() * (4 * 8 * 5 + 8 * 5 * 8)
    torch.manual_seed(0)
    vectors, queries = torch.randn(153, 8), torch.randn(5, 8)
    for n_queries in (5, 2, 1):
        some = queries[:n_queries]
        rows, scores = index.search([vectors[:20], vectors[20:51], vectors[51:]], some, 17)
        expected_rows, expected_scores = full(vectors, some, 17)
        assert torch.equal(rows, expected_rows)
        torch.testing.assert_close(scores, expected_scores)


@pytest.mark.parametrize("n_queries", [1, 3, 17])
@pytest.mark.parametrize("dim", [64, 512])
def test_equal_vectors_score_equal_to_the_last_bit_wherever_they_stand(dim: int, n_queries: int) -> None:
    # Sums of real vectors round; a product of another shape may round otherwise, and a copy would not tie.
    torch.manual_seed(1)
    vectors, queries = torch.randn(3000, dim), torch.randn(n_queries, dim)
    copies = torch.tensor([0, 1, 1023, 1024, 1500, 2047, 2048, 2999])
    vectors[copies] = 3 * queries[0]
    for cut in (1, 700, 1024, 3000):
        rows, scores = ExactIndex(ExactIndexConfig(), BuildContext()).search(vectors.split(cut), queries, 8)
        assert rows[0].tolist() == copies.tolist()
        assert len(scores[0].unique()) == 1


def test_of_equal_scores_at_the_border_the_first_rows_are_taken() -> None:
    vectors = torch.tensor([1.0, 2.0, 1.0, 1.0, 2.0])[:, None]
    rows, scores = ExactIndex(ExactIndexConfig(), BuildContext()).search([vectors], torch.ones(1, 1), 3)
    assert rows.tolist() == [[1, 4, 0]]
    assert scores.tolist() == [[2.0, 2.0, 1.0]]


def test_threads_are_given_back_after_a_fault() -> None:
    threads = torch.get_num_threads()
    with pytest.raises(ValueError, match=r"blocks\[1\]"):
        ExactIndex(ExactIndexConfig(), BuildContext()).search([torch.ones(3, 2), torch.ones(3, 4)], torch.ones(1, 2), 1)
    assert torch.get_num_threads() == threads


def test_no_queries_and_no_vectors() -> None:
    index = ExactIndex(ExactIndexConfig(), BuildContext())
    assert index.search([torch.ones(3, 2)], torch.empty(0, 2), 2)[0].shape == (0, 2)
    assert index.search([], torch.ones(2, 2), 2)[0].shape == (2, 0)


def test_bad_input_is_named() -> None:
    index = ExactIndex(ExactIndexConfig(), BuildContext())
    with pytest.raises(ValueError, match="k: expected at least 1, got 0"):
        index.search([torch.ones(3, 2)], torch.ones(1, 2), 0)
    with pytest.raises(ValueError, match=r"blocks\[1\]: expected \(n, 2\)"):
        index.search([torch.ones(3, 2), torch.ones(3, 4)], torch.ones(1, 2), 1)
    with pytest.raises(ValueError, match="queries: hold NaN"):
        index.search([torch.ones(3, 2)], torch.tensor([[1.0, float("nan")]]), 1)
    with pytest.raises(ValueError, match=r"queries: expected \(n_queries, dim\), got \(2,\)"):
        index.search([torch.ones(3, 2)], torch.ones(2), 1)

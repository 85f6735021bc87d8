"""Exact search: equal to a full product and a stable sort, whatever the blocks."""

from __future__ import annotations

import pytest
import torch
from heritage_align_plugins.exact_index.config import ExactIndexConfig
from heritage_align_plugins.exact_index.index import ExactIndex, best
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


def test_a_budget_of_few_rows_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heritage_align_plugins.exact_index.index.PIECE_BYTES", 4 * 8 * 5)  # pieces of five rows
    index = ExactIndex(ExactIndexConfig(), BuildContext())
    index._block_bytes = 4 * 3 * 12  # runs of ten rows for three queries
    torch.manual_seed(0)
    vectors, queries = torch.randn(53, 8), torch.randn(3, 8)
    rows, scores = index.search([vectors[:20], vectors[20:]], queries, 7)
    expected_rows, expected_scores = full(vectors, queries, 7)
    assert torch.equal(rows, expected_rows)
    torch.testing.assert_close(scores, expected_scores)


def test_best_takes_the_first_of_equals() -> None:
    columns, values = best(torch.tensor([[1.0, 2.0, 1.0, 1.0, 2.0], [3.0, 3.0, 3.0, 3.0, 3.0]]), 3)
    assert columns.tolist() == [[1, 4, 0], [0, 1, 2]]
    assert values.tolist() == [[2.0, 2.0, 1.0], [3.0, 3.0, 3.0]]


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

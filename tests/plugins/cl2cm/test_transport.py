"""The plan between words: by hand, against the slow reference, at its limit, with padding."""

from __future__ import annotations

import pytest
import torch
from heritage_align_plugins.cl2cm import reference
from heritage_align_plugins.cl2cm.transport import LEAST, mutual_maxima, transport_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor


def whole(cosines: Tensor) -> tuple[Tensor, Tensor]:
    """Return masks without padding."""
    n, rows, columns = cosines.shape
    return torch.ones(n, rows, dtype=torch.bool), torch.ones(n, columns, dtype=torch.bool)


def test_two_words_by_hand() -> None:
    cosines = torch.tensor([[[0.8, 0.2], [0.4, 0.6]]])
    plan = transport_plan(cosines, *whole(cosines), iterations=1)
    # Columns sum to 1.2 and 0.8: rows become (2/3, 1/4) and (1/3, 3/4), whose sums are 11/12 and 13/12.
    wanted = torch.tensor([[[8 / 11, 3 / 11], [4 / 13, 9 / 13]]]) / 2
    assert torch.allclose(plan, wanted, atol=1e-7)
    assert mutual_maxima(plan).tolist() == [[[True, False], [False, True]]]


def test_a_cosine_below_zero_counts_as_the_least() -> None:
    cosines = torch.tensor([[[0.5, -0.9], [-0.2, 0.5]]])
    plan = transport_plan(cosines, *whole(cosines), iterations=1)
    assert plan[0, 0, 1].item() == pytest.approx(LEAST, rel=0.01)  # of 0.5: 2e-6 of the row's half
    assert plan[0].diagonal().tolist() == pytest.approx([0.5, 0.5], abs=1e-5)


def test_marginals_come_to_be_uniform() -> None:
    cosines = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0))
    plan = transport_plan(cosines, *whole(cosines), iterations=500)
    assert torch.allclose(plan.sum(2), torch.full((3, 5), 1 / 5), atol=1e-6)
    assert torch.allclose(plan.sum(1), torch.full((3, 4), 1 / 4), atol=1e-5)
    early = transport_plan(cosines, *whole(cosines), iterations=2).sum(1)
    once = transport_plan(cosines, *whole(cosines), iterations=1).sum(1)
    assert (early - 1 / 4).abs().max() < (once - 1 / 4).abs().max()


def test_the_limit_solves_the_transport_problem() -> None:
    """Of all plans with these marginals, Sinkhorn's limit has the least cost -log(cos) minus its entropy."""
    cosines = torch.tensor([[[0.9, 0.1], [0.3, 0.7]]], dtype=torch.float64)
    plan = transport_plan(cosines, *whole(cosines), iterations=1000)[0].double()
    cost = -cosines[0].log()

    def objective(p: Tensor) -> float:
        return float((p * cost + p * p.log()).sum())

    least = objective(plan)
    for share in torch.linspace(0.01, 0.49, 49, dtype=torch.float64).tolist():  # all 2 x 2 plans of uniform marginals
        other = torch.tensor([[share, 0.5 - share], [0.5 - share, share]], dtype=torch.float64)
        assert objective(other) >= least - 1e-7


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(st.lists(st.floats(-1, 1, width=32), min_size=n, max_size=n), min_size=1, max_size=5)
    ),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_padding_changes_nothing(cosines: list[list[float]], iterations: int, below: int, beside: int) -> None:
    wanted = torch.tensor(reference.transport_plan(cosines, iterations))
    rows, columns = wanted.shape
    padded = torch.full((1, rows + below, columns + beside), 0.99)
    padded[0, :rows, :columns] = torch.tensor(cosines)
    masks = torch.arange(rows + below)[None] < rows, torch.arange(columns + beside)[None] < columns
    plan = transport_plan(padded, *masks, iterations)
    assert torch.allclose(plan[0, :rows, :columns], wanted.float(), atol=1e-5)
    assert plan[0, rows:].abs().sum() == 0
    assert plan[0, :, columns:].abs().sum() == 0
    assert not mutual_maxima(plan)[0, rows:].any()

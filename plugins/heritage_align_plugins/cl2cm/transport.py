"""Which word of a translation stands for which of the source: optimal transport by Sinkhorn's iteration.

With the kernel ``K = max(cos(t_i, s_j), 1e-6)`` the iteration solves entropic transport at cost ``-log cos`` and
regularisation 1 between uniform distributions over the words of both sentences. XLM-Align (Chi et al. 2021, public
code, our reading of it) stops after 2 iterations, each a division by the sums of the columns, then by those of the
rows, and takes pairs that are each other's maximum for aligned. That CL2CM does the same is our assumption: its solver,
cost and marginals are not published.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 1e-6
"""Of a cosine: what is 0 or less counts as this, so that every row can be divided by its sum."""


def transport_plan(cosines: Tensor, rows: Tensor, columns: Tensor, iterations: int = 2) -> Tensor:
    """Return the plan between the words of two sentences, for a batch of pairs.

    Args:
        cosines: ``(n, n_rows, n_columns)``.
        rows: ``(n, n_rows)`` bool, False at padding; at least one True a pair.
        columns: ``(n, n_columns)`` bool.
        iterations: each normalises columns, then rows.

    Returns:
        ``(n, n_rows, n_columns)``, 0 at padding. Rows sum to 1 over the number of rows; columns come to 1 over the
        number of columns as the iterations go on.
    """
    valid = rows[:, :, None] & columns[:, None, :]
    plan = cosines.float().clamp(min=LEAST).masked_fill(~valid, 0.0)
    for _ in range(iterations):
        plan = plan / _sums(plan, 1, ~columns[:, None, :])
        plan = plan / _sums(plan, 2, ~rows[:, :, None])
    return plan / rows.sum(1)[:, None, None]


def mutual_maxima(plan: Tensor) -> Tensor:
    """Return ``(n, n_rows, n_columns)`` bool: entries above 0 that are the largest of their row and their column."""
    largest = (plan == plan.amax(2, keepdim=True)) & (plan == plan.amax(1, keepdim=True))
    return largest & (plan > 0)


def _sums(plan: Tensor, dim: int, padding: Tensor) -> Tensor:
    """Return sums along a dimension, 1 at padding, which divides nothing but zeros."""
    return torch.where(padding, 1.0, plan.sum(dim, keepdim=True))

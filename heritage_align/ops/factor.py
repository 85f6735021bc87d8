"""Triangular factors: what an attended vector's length needs instead of the feature rows themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from . import checks, inputs, reference
from .backend import pick
from .ragged import Ragged


def triangular_factor(ragged: Ragged, *, backend: str = "auto") -> Tensor:
    """Factor every item's rows ``V (m, dim)`` as ``V^T = Q R`` and pack the upper triangles of R.

    ``|a^T V| = |R a|`` for any weights a, so a score that needs only that length never touches ``dim`` again.
    R and not the Gram matrix ``V V^T = R^T R``: where regions cancel, the error of the Gram form grows with
    ``1 / |a^T V|^2`` and that of R with ``1 / |a^T V|``. Rows of R are determined up to sign; dependent rows of V give
    rows of zeros. int8 rows are factored with their scales applied. Not differentiable.

    Args:
        ragged: rows ``(total, dim)``.
        backend: "auto", "reference", "cpu" or "cuda".

    Returns:
        float32 ``(sum_i m_i (m_i + 1) / 2,)``: per item, row after row, ``R[r, r:]``.

    Raises:
        ValueError: if an argument does not fit; the message names it.
    """
    inputs.ragged("ragged", ragged)
    checks.refuse_vmap("triangular_factor", ragged.values)
    with torch.no_grad():
        if pick(backend, ragged.device, (ragged.dtype,)) == "reference":
            return reference.triangular_factor(ragged).float()
        packed: Tensor = torch.ops.heritage_align.triangular_factor.default(
            inputs.rows(ragged.values),
            ragged.scales,
            ragged.offsets,
            ragged.factor_offsets,
            ragged.factor_size,
        )
        return packed

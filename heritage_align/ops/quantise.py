"""int8 storage: a symmetric scale a row, four times smaller than float32."""

from __future__ import annotations

import torch

from . import checks
from .ragged import Ragged


def quantise(ragged: Ragged) -> Ragged:
    """Store the rows as int8 with one float32 scale a row: ``row = values * scale``, the largest magnitude maps to 127.

    For unit vectors the error of a focal-attention score stays below about 1e-2 (near-duplicate regions) and typically
    3e-4. Factors must be computed from the quantised rows, not the originals, or cosines could exceed 1.

    Raises:
        ValueError: if the rows are int8 already, or not finite.
    """
    if ragged.dtype == torch.int8:
        raise ValueError("ragged is int8 already")
    checks.finite("ragged.values", ragged.values)
    rows = ragged.values.float()
    largest = rows.abs().amax(dim=1) if ragged.dim else rows.new_zeros(ragged.total)
    scales = torch.where(largest > 0, largest / 127, torch.ones_like(largest))
    values = (rows / scales[:, None]).round().clamp(-127, 127).to(torch.int8)
    return ragged._like(values, scales)

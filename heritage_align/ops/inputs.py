"""Checks that several ops share: two ragged inputs that must fit together, and packed factors."""

from __future__ import annotations

import torch
from torch import Tensor

from . import checks
from .ragged import Ragged


def ragged(name: str, value: object) -> Ragged:
    """Return ``value`` if it is a :class:`Ragged`."""
    if not isinstance(value, Ragged):
        raise ValueError(f"{name} must be a Ragged; got {checks.describe(value)}")
    return value


def rows(values: Tensor) -> Tensor:
    """The values as the kernels read them: any distance between rows, elements of a row side by side."""
    if values.is_contiguous() or values.stride(1) == 1 or values.shape[1] <= 1:
        return values
    return values.contiguous()


def same_space(first_name: str, first: Ragged, second_name: str, second: Ragged) -> None:
    """Raise unless two ragged inputs have one dim and one device."""
    if first.dim != second.dim:
        raise ValueError(
            f"{first_name} and {second_name} must have rows of one length; got {first.dim} and {second.dim}"
        )
    if first.device != second.device:
        raise ValueError(
            f"{first_name} and {second_name} must be on one device; got {first.device} and {second.device}"
        )


def factor(name: str, value: Tensor | None, of: Ragged) -> Tensor | None:
    """Return a packed triangular factor of ``of``, contiguous float32; its size is ``sum_i m_i (m_i + 1) / 2``."""
    if value is None:
        return None
    checks.tensor(name, value, shape=(None,), dtypes=(torch.float32, torch.float16), device=of.device)
    if value.shape[0] != of.factor_size:
        raise ValueError(
            f"{name} must hold {of.factor_size} numbers, m(m+1)/2 for each item (ops.triangular_factor); "
            f"got {value.shape[0]}"
        )
    return (value if value.dtype == torch.float32 else value.float()).contiguous()

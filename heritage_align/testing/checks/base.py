"""What a check is, and the few comparisons that they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TypeVar

import torch
from torch import Tensor

from heritage_align.hookspecs import Kind
from heritage_align.testing.case import Case

TOLERANCE = 1e-4
"""Of fp32 results that differ only in how a batch was cut: matrix products block differently, errors stay
near 1e-6."""


@dataclass(frozen=True)
class Check:
    """One check: `run` raises AssertionError where a component does not keep its part of the contract."""

    name: str
    kinds: tuple[Kind, ...]
    reason: str
    run: Callable[[Case], None]


Function = TypeVar("Function", bound=Callable[[Case], None])


def check(*kinds: Kind) -> Callable[[Function], Function]:
    """Mark a function as a check of these kinds; the first paragraph of its docstring is the reason for
    it."""

    def mark(function: Function) -> Function:
        function.kinds = kinds  # type: ignore[attr-defined]
        return function

    return mark


def collect(*modules: ModuleType) -> tuple[Check, ...]:
    """Return the checks of modules in the order in which they are written."""
    found = []
    for module in modules:
        for name, function in vars(module).items():
            if hasattr(function, "kinds") and name.startswith("check_"):
                reason = " ".join((function.__doc__ or "").partition("\n\n")[0].split())
                found.append(Check(name, function.kinds, reason, function))
    return tuple(found)


def expect(condition: bool, message: str) -> None:
    """Raise AssertionError; not a bare assert, which ``python -O`` drops and pytest rewrites only in
    tests."""
    if not condition:
        raise AssertionError(message)


def expect_close(got: Tensor, wanted: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    """Expect equal shapes and values; infinities must agree in place and sign, NaN never passes."""
    expect(got.shape == wanted.shape, f"{what}: shape {tuple(got.shape)}, expected {tuple(wanted.shape)}")
    close = torch.isclose(got.double(), wanted.double(), rtol=tolerance, atol=tolerance)
    if not bool(close.all()):
        place = tuple(int(i) for i in (~close).nonzero()[0])
        raise AssertionError(f"{what}: {got[place].item():.6g} at {place}, expected {wanted[place].item():.6g}")


def expect_unit_rows(rows: Tensor, dim: int, what: str) -> None:
    """Expect fp32 ``(..., dim)`` rows of unit length."""
    expect(rows.dtype == torch.float32, f"{what}: dtype {rows.dtype}, expected torch.float32")
    expect(rows.shape[-1] == dim, f"{what}: shape {tuple(rows.shape)}, expected rows of dim {dim}")
    norms = torch.linalg.vector_norm(rows, dim=-1)
    # NaN and infinity fail this too, and a row of zeros.
    worst = (norms - 1).abs().max().item() if norms.numel() else 0.0
    expect(worst < 1e-3, f"{what}: a row's length is off 1 by {worst:.3g}")

"""Checks on what callers hand to the ops: one ``ValueError`` that names the argument, what was expected and what came.

Checks that read data (ids in range, finite values) are skipped while a graph is being traced or captured, where a value
cannot be read without breaking it; everything that shapes and dtypes can tell is always checked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

STORAGE_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int8)


def describe(value: object) -> str:
    """Say what ``value`` is in the words of an error message: type, and for a tensor its dtype, shape and device."""
    if isinstance(value, Tensor):
        shape = ", ".join(str(size) for size in value.shape)
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape ({shape}) on {value.device}"
    return f"{type(value).__name__} {value!r}"


def can_read_data(*tensors: Tensor | None) -> bool:
    """Whether values may be looked at on the host: not while tracing, and not while a CUDA graph is being captured."""
    if torch.compiler.is_compiling():
        return False
    for tensor in tensors:
        if tensor is None:
            continue
        if tensor.device.type == "meta" or isinstance(tensor, torch._subclasses.FakeTensor):
            return False
        if tensor.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return False
    return True


def refuse_vmap(name: str, *values: object) -> None:
    """Raise for tensors batched by ``torch.func.vmap``.

    The ops already score every pair at once and ragged items have no batch axis to map over.
    """
    if not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is None:
        return  # no transform is under way
    if any(isinstance(value, Tensor) and torch._C._functorch.is_batchedtensor(value) for value in values):
        raise ValueError(
            f"{name} does not run under torch.func.vmap: it already scores all pairs of a ragged batch in one call; "
            "concatenate the items (Ragged.concat) instead of mapping over them"
        )


def choice(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        names = ", ".join(repr(option) for option in allowed)
        raise ValueError(f"{name} must be one of {names}; got {value!r}")


def number(name: str, value: float, *, positive: bool = False) -> float:
    """Return ``value`` as a float, or raise unless it is finite and not negative (``positive``: greater than zero)."""
    if type(value) is float and 0.0 < value < math.inf:
        return value
    if isinstance(value, Tensor) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number; got {describe(value)}")
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        bound = "greater than 0" if positive else "0 or greater"
        raise ValueError(f"{name} must be finite and {bound}; got {value}")
    return float(value)


def setting(name: str, value: object, codes: dict[Any, int]) -> int:
    """The number of ``value`` in one of the tables of :mod:`.codes`, or raise unless it is one of their names."""
    try:
        return codes[value]
    except (KeyError, TypeError):  # TypeError: of a type that no dict takes
        choice(name, value, tuple(codes))
        raise


def tensor(
    name: str,
    value: object,
    *,
    shape: tuple[int | None, ...],
    dtypes: Sequence[torch.dtype] | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Return ``value`` if it is a tensor of this shape (``None``: any size), of one of ``dtypes``, on ``device``."""
    # In every call of an op, several times: a third of a microsecond where all fits (zip alone would add half of that).
    if isinstance(value, Tensor):
        sizes = value.shape
        if (
            len(sizes) == len(shape)
            and (dtypes is None or value.dtype in dtypes)
            and (device is None or value.device == device)
        ):
            for i, want in enumerate(shape):
                if want is not None and sizes[i] != want:
                    break
            else:
                return value
    raise ValueError(_misfit(name, value, shape, dtypes, device))


def _misfit(
    name: str,
    value: object,
    shape: tuple[int | None, ...],
    dtypes: Sequence[torch.dtype] | None,
    device: torch.device | None,
) -> str:
    sizes = tuple(value.shape) if isinstance(value, Tensor) else ()
    fits = len(sizes) == len(shape) and all(want in (None, have) for have, want in zip(sizes, shape))
    if not isinstance(value, Tensor) or not fits:
        wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
        what = "have shape" if isinstance(value, Tensor) else "be a tensor of shape"
        return f"{name} must {what} {wanted}; got {describe(value)}"
    if dtypes is not None and value.dtype not in dtypes:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        return f"{name} must have dtype {names}; got {describe(value)}"
    return f"{name} must be on {device} like the other inputs; got {describe(value)}"


def finite(name: str, value: Tensor | None) -> None:
    """Raise if a floating tensor holds NaN or infinity (asked for with ``check_finite=True``; reads the data once)."""
    if value is None or not value.is_floating_point() or not can_read_data(value):
        return
    bad = ~torch.isfinite(value)
    if bool(bad.any()):
        row = int(bad.reshape(value.shape[0], -1).any(dim=1).nonzero()[0])
        raise ValueError(f"{name} must be finite; row {row} holds NaN or infinity ({int(bad.sum())} values in all)")

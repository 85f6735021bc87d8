"""Which implementation runs: the compiled CPU or CUDA kernels, or the reference where they are not built."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

from . import checks
from .architectures import architecture
from .build_info import build_info
from .registration import register_all

BACKENDS = ("auto", "reference", "cpu", "cuda")
LIBRARY = Path(__file__).with_name("_kernels.so")
NAMESPACE = "heritage_align"


def load_library() -> str | None:
    """Load the compiled ops and register what Python adds to them; return why that failed, or None."""
    if not LIBRARY.exists():
        return build_info().reason or "the extension has not been built: run `python setup.py build_ext --inplace`"
    try:
        torch.ops.load_library(str(LIBRARY))
    except OSError as error:
        return f"{LIBRARY.name} does not load with torch {torch.__version__}: {error}"
    register_all()
    return None


def _find_missing() -> dict[str, str | None]:
    reason = load_library()
    if reason is not None:
        return {"cpu": reason, "cuda": reason}
    found: dict[str, str | None] = {}
    for backend in ("cpu", "cuda"):
        built = torch._C._dispatch_has_kernel_for_dispatch_key(f"{NAMESPACE}::focal_attention", backend.upper())
        why = build_info().cuda_reason if backend == "cuda" else ""
        found[backend] = None if built else why or f"the library was built without {backend} kernels"
    return found


# Found at import, not at the first call: a call may be one that torch.compile is tracing.
MISSING = _find_missing()


@lru_cache(maxsize=64)
def _gpu_reason(index: int | None) -> str | None:
    """Why the CUDA kernels do not run on a GPU, or None."""
    found = architecture(torch.cuda.get_device_capability(index), build_info().cuda_targets)
    return f"{torch.cuda.get_device_name(index)}: {found.reason}" if found.target is None else None


def _reason(device: torch.device) -> str | None:
    """Why the kernels of a device do not run there, or None. While torch.compile traces, the GPU is not looked at."""
    reason = MISSING[device.type]
    if reason is not None or device.type != "cuda" or torch.compiler.is_compiling():
        return reason
    return _gpu_reason(device.index)


@lru_cache(maxsize=64)
def _say_once(device: str, reason: str) -> None:
    warnings.warn(
        f"heritage_align.ops: no compiled {device} kernels, the slow reference runs instead: {reason}",
        RuntimeWarning,
        stacklevel=4,
    )


def run(op: Callable[..., torch.Tensor], *args: object) -> torch.Tensor:
    """Call a compiled op, and where nothing needs a gradient, past autograd.

    The gradients are written in Python, and so is the layer that looks whether one is needed: it costs some 13
    microseconds a call.
    """
    plain = not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is None
    if plain and torch.is_grad_enabled():
        plain = not any(isinstance(value, torch.Tensor) and value.requires_grad for value in args)
    if not plain:
        return op(*args)
    with torch._C._AutoDispatchBelowAutograd():
        return op(*args)


def pick(backend: str, device: torch.device, dtypes: tuple[torch.dtype, ...]) -> str:
    """Resolve ``backend`` for inputs on ``device`` to "reference", "cpu" or "cuda".

    "auto" takes the kernels of the device if they are built and run there (saying once that they do not) and the
    reference for float64, which the kernels do not store.

    Raises:
        ValueError: for an unknown backend, or one that cannot serve these inputs.
    """
    checks.choice("backend", backend, BACKENDS)
    if backend == "reference":
        return "reference"
    wide = torch.float64 in dtypes
    if backend == "auto":
        if wide or device.type not in ("cpu", "cuda"):
            return "reference"
        reason = _reason(device)
        if reason is None:
            return device.type
        if not torch.compiler.is_compiling():
            _say_once(device.type, reason)
        return "reference"
    if device.type != backend:
        raise ValueError(f"backend {backend!r} needs inputs on {backend}; they are on {device}")
    if wide:
        raise ValueError(f"backend {backend!r} stores float32, float16, bfloat16 or int8; got float64")
    reason = _reason(device)
    if reason is not None:
        raise ValueError(f"backend {backend!r} is not available: {reason}")
    return backend

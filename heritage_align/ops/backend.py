"""Which implementation runs: the compiled CPU or CUDA kernels, or the reference where they are not built."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

from . import checks
from .architectures import Architecture, architecture
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
def _architecture(index: int | None, _path: str | None) -> Architecture:
    """What runs on a GPU while HERITAGE_ALIGN_CUDA_PATH is ``_path``: the driver is asked once."""
    return architecture(torch.cuda.get_device_capability(index), build_info().cuda_targets)


def architecture_of(device: torch.device) -> Architecture:
    """What of this build runs on a GPU."""
    return _architecture(device.index, os.environ.get("HERITAGE_ALIGN_CUDA_PATH"))


def kernels_on(device: torch.device) -> str | None:
    """Which of the two sets of CUDA kernels a GPU runs: "hopper" (where they fit) or "sm_80".

    None where no kernels run, and while torch.compile traces, when the GPU is not looked at.
    """
    return None if torch.compiler.is_compiling() else architecture_of(device).kernels


def _reason(device: torch.device) -> str | None:
    """Why the kernels of a device do not run there, or None. While torch.compile traces, the GPU is not looked at."""
    reason = MISSING[device.type]
    if reason is not None or device.type != "cuda" or torch.compiler.is_compiling():
        return reason
    found = architecture_of(device)
    return f"{torch.cuda.get_device_name(device.index)}: {found.reason}" if found.target is None else None


@lru_cache(maxsize=64)
def _say_once(device: str, reason: str) -> None:
    warnings.warn(
        f"heritage_align.ops: no compiled {device} kernels, the slow reference runs instead: {reason}",
        RuntimeWarning,
        stacklevel=4,
    )


def run(
    op: Callable[..., torch.Tensor], differentiable: tuple[torch.Tensor | None, ...], *args: object
) -> torch.Tensor:
    """Call a compiled op with ``args``, and where none of ``differentiable`` needs a gradient, past autograd.

    The gradients are written in Python, and so is the layer that looks whether one is needed: it costs some 13
    microseconds a call.
    """
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        return op(*args)
    if torch.is_inference_mode_enabled():  # which goes past autograd by itself
        return op(*args)
    if torch.is_grad_enabled():
        for value in differentiable:
            if value is not None and value.requires_grad:
                return op(*args)
    with torch._C._AutoDispatchBelowAutograd():
        return op(*args)


@lru_cache(maxsize=256)
def _kernels_for(device: torch.device, dtypes: tuple[torch.dtype, ...]) -> str | None:
    """The compiled kernels that serve these inputs, or None."""
    if torch.float64 in dtypes or device.type not in ("cpu", "cuda") or _reason(device) is not None:
        return None
    return device.type


def pick(backend: str, device: torch.device, dtypes: tuple[torch.dtype, ...]) -> str:
    """Resolve ``backend`` for inputs on ``device`` to "reference", "cpu" or "cuda".

    "auto" takes the kernels of the device if they are built and run there (saying once that they do not) and the
    reference for float64, which the kernels do not store.

    Raises:
        ValueError: for an unknown backend, or one that cannot serve these inputs.
    """
    if not torch.compiler.is_compiling():
        found = _kernels_for(device, dtypes)
        if found is not None and backend in ("auto", found):
            return found
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

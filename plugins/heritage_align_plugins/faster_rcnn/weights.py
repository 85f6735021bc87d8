"""Read detector weights without running what a file says."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from heritage_align.plugin import CheckpointError

# What pickled numpy arrays in dictionaries consist of, under the module names of numpy 1 and 2.
_PLAIN = {
    ("collections", "OrderedDict"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a file holds: tensors by name, or a dictionary around them.

    ``.safetensors`` and ``.pkl`` are known by their ending, all else is read by `torch.load`.

    Raises:
        CheckpointError: the file is missing, broken, not a dictionary, or would run code when read.
    """
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        elif path.suffix == ".pkl":
            content = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        SafetensorError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ImportError,
        pickle.UnpicklingError,
    ) as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: cannot be read as weights: {first_line}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dictionary of weights, got {type(content).__name__}")
    return content


def read_state(path: Path) -> dict[str, Tensor]:
    """Return tensors by name, taken out of ``model`` or ``state_dict`` and without the prefix ``module.``.

    Raises:
        CheckpointError: see `read_checkpoint`; also where a value is no tensor.
    """
    content = read_checkpoint(path)
    for wrapper in ("model", "state_dict"):
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    state = {str(name).removeprefix("module."): value for name, value in content.items()}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: {name!r} is no tensor but {type(value).__name__}")
    return state


def require_fit(path: str, missing: Iterable[str], unexpected: Iterable[str], shapes: Iterable[str]) -> None:
    """Raise CheckpointError that names the first three mismatches of each sort; nothing where all fits."""
    found = {"missing": [*missing], "unexpected": [*unexpected], "of another shape": [*shapes]}
    parts = [
        f"{len(names)} {sort} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for sort, names in found.items()
        if names
    ]
    if parts:
        raise CheckpointError(f"{path}: does not fit the detector: {'; '.join(parts)}")


class _ArraysOnly(pickle.Unpickler):
    """Unpickles dictionaries of numpy arrays, the form of detectron2's model zoo, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PLAIN:
            raise pickle.UnpicklingError(f"refuses to run {module}.{name}")
        return super().find_class(module, name)

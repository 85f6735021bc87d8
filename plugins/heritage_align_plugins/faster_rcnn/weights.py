"""Read the pickles of detectron2's model zoo without running what they say, and tell whether weights fit."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from heritage_align.plugin import CheckpointError, numpy_stand_in, refuse_foreign

_PLAIN = {("collections", "OrderedDict"), ("_codecs", "encode")}
"""What dictionaries of arrays consist of, beside what is numpy's."""


def read_arrays(path: Path) -> dict[str, Any]:
    """Return what a ``.pkl`` file of detectron2's model zoo holds: arrays by name, or a dictionary around them.

    Raises:
        CheckpointError: the file is missing, broken, not a dictionary, or would run code when read.
    """
    refuse_foreign(path)
    try:
        data = path.read_bytes()
        _refuse_far_memo(data)
        content = _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # a damaged file makes the unpickler raise whatever there is
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: cannot be read as weights: {first_line}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dictionary of weights, got {type(content).__name__}")
    return content


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


def _refuse_far_memo(data: bytes) -> None:
    """Raise UnpicklingError where a pickle numbers its values beyond its bytes: a list of that length is made of it."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(data):
            raise pickle.UnpicklingError(f"refuses to keep a value as number {argument}")


class _ArraysOnly(pickle.Unpickler):
    """Unpickles dictionaries of numpy arrays, the form of detectron2's model zoo, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return super().find_class(module, name)
        stand_in = numpy_stand_in(module, name)
        if stand_in is None:
            raise pickle.UnpicklingError(f"refuses to run {module}.{name}")
        return stand_in

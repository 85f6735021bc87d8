"""A published model's files, from a folder or the hub's cache, and its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers.utils import cached_file

from heritage_align.plugin import (
    CheckpointError,
    fitted,
    indexed_files,
    leads_outside,
    read_settings,
    read_tensors,
    refuse_not_finite,
)
from heritage_align_plugins.fg_clip.description import Description
from heritage_align_plugins.fg_clip.model import Model, build

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"


class Files:
    """The files of a model.

    Args:
        name: folder or hub name.
        revision: of the hub's repository.
    """

    def __init__(self, name: str, revision: str | None) -> None:
        self.name, self.revision = name, revision

    def find(self, file: str) -> Path | None:
        """Return a file, fetched or from the cache where the model is of the hub, None if the model has no such file.

        Raises:
            CheckpointError: the hub cannot be reached and the cache does not hold the model.
        """
        try:
            found = cached_file(
                self.name,
                file,
                revision=self.revision,
                _raise_exceptions_for_missing_entries=False,
            )
        except (OSError, ValueError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise CheckpointError(f"{self.name}: {reason}") from error
        return None if found is None else Path(found)

    def need(self, file: str, what: str) -> Path:
        """Return a file; raises CheckpointError, that says what it is, where there is none."""
        found = self.find(file)
        if found is None:
            where = (
                "" if Path(self.name).is_dir() else ": it is neither a folder, nor to be had from the hub or its cache"
            )
            raise CheckpointError(f"{self.name}: there is no {file}, {what}{where}")
        return found

    def settings(self, file: str) -> dict[str, Any]:
        """Return a JSON file's content, {} where there is none."""
        found = self.find(file)
        return {} if found is None else read_settings(found)

    def weights(self) -> Iterator[Path]:
        """Yield the files of the weights: one, or those that an index names."""
        single = self.find(_WEIGHTS)
        if single is not None:
            yield single
            return
        index = self.find(_INDEX)
        if index is None:
            raise CheckpointError(f"{self.name}: there is neither {_WEIGHTS} nor {_INDEX}; only safetensors are read")
        for part in indexed_files(index):
            if leads_outside(part):
                raise CheckpointError(f"{index}: names {part!r}, which is outside of the model's folder")
            yield self.need(part, f"which {_INDEX} names")


def load_model(files: Files, description: Description) -> Model:
    """Build a model and load its weights, in fp32 and evaluation mode.

    Raises:
        CheckpointError: weights are missing, of another shape, damaged, NaN or infinite.
    """
    model = build(description)
    tensors = model.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    state: dict[str, torch.Tensor] = {}
    for path in files.weights():
        state |= read_tensors(path)
    found = fitted(state, tensors, files.name)
    missing = sorted(expected.keys() - found.keys())
    if missing:
        more = "; ..." if len(missing) > 3 else ""
        raise CheckpointError(f"{files.name}: {len(missing)} weights are missing ({'; '.join(missing[:3])}{more})")
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise CheckpointError(
                f"{files.name}: {name} has shape {tuple(found[name].shape)}, config.json says {shape}"
            )
    own = {name: found[name].float() for name in expected}
    refuse_not_finite(own, files.name)
    model.load_state_dict(own, assign=True)
    evaluated: Model = model.eval()
    return evaluated

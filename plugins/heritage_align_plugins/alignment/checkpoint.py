"""A trained alignment model as one safetensors file: tensors, and in its metadata settings and vocabulary."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from heritage_align.plugin import CheckpointError, Encoder, load_into, write_atomically
from heritage_align_plugins.alignment.description import Description, read_description
from heritage_align_plugins.alignment.model import AlignmentModel


def save_model(model: AlignmentModel, path: Path, *, features: bool) -> None:
    """Write a model; `features` tells whether it was trained on a proposer's features (True) or an encoder's."""
    description = Description(model.settings, model.feature_dim, features, model.vocabulary)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=description.metadata()))


def check_base(path: Path, base: Encoder | None) -> None:
    """Raise CheckpointError where a model does not fit the encoder below it, or needs one, or none."""
    description = read_description(path)
    if description.features and base is not None:
        raise CheckpointError(f"{path}: takes region features of a proposer; leave out base")
    if not description.features and base is None:
        raise CheckpointError(f"{path}: was trained on an encoder's vectors; name it as base")
    if base is not None and base.dim != description.feature_dim:
        raise CheckpointError(
            f"{path}: was trained on vectors of {description.feature_dim} dimensions, base gives {base.dim}"
        )


def load_model(path: Path, base_text: Encoder | None = None) -> tuple[AlignmentModel, str]:
    """Load a model and the sha256 of its file.

    Raises:
        CheckpointError: the file is damaged, holds NaN or infinity, or was trained with another text encoder.
    """
    description = read_description(path)
    if "frozen" in description.settings.text and base_text is None:
        raise CheckpointError(f"{path}: was trained on a pretrained text encoder; name it as text_base")
    model = AlignmentModel(description.settings, description.feature_dim, description.vocabulary, base_text)
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: its tensors cannot be read: {error}") from error
    if model.gain is not None:
        state.setdefault("gain", torch.ones_like(model.gain))  # files from before there was one
    load_into(model, state, str(path))
    return model.eval(), hashlib.sha256(path.read_bytes()).hexdigest()

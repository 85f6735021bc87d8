"""A trained alignment model as one safetensors file: tensors, and in its metadata settings and vocabulary."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from heritage_align.errors import CheckpointError
from heritage_align.protocols import Encoder
from heritage_align.store.files import write_atomically
from heritage_align_plugins.alignment.description import FORMAT, read_description
from heritage_align_plugins.alignment.model import AlignmentModel
from heritage_align_plugins.alignment.text.tokens import Vocabulary


def save_model(model: AlignmentModel, path: Path, *, features: bool) -> None:
    """Write a model; `features` tells whether it was trained on a proposer's features (True) or an encoder's."""
    document = {
        "settings": model.settings.model_dump(mode="json"),
        "feature_dim": model.feature_dim,
        "features": features,
        "vocabulary": model.vocabulary.asdict(),
    }
    metadata = {"format": FORMAT, "model": json.dumps(document, ensure_ascii=False)}
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def load_model(path: Path, base_text: Encoder | None = None) -> tuple[AlignmentModel, str]:
    """Load a model and the sha256 of its file.

    Raises:
        CheckpointError: the file is damaged, or the pretrained text encoder is not the one that it was trained with.
    """
    description = read_description(path)
    if "frozen" in description.settings.text and base_text is None:
        raise CheckpointError(f"{path}: was trained on a pretrained text encoder; name it as text_base")
    model = AlignmentModel(
        description.settings, description.feature_dim, Vocabulary.from_dict(description.vocabulary), base_text
    )
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        model.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path}: its tensors do not fit the model that it describes: {error}") from error
    return model.eval(), hashlib.sha256(path.read_bytes()).hexdigest()

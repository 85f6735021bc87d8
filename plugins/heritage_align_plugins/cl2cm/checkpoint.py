"""A trained student as one safetensors file: tensors, and in its metadata sizes and vocabulary."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from heritage_align.plugin import CheckpointError, file_digest, load_into, write_atomically
from heritage_align_plugins.cl2cm.description import Description, read_description
from heritage_align_plugins.cl2cm.model import StudentModel
from heritage_align_plugins.cl2cm.vocabulary import Vocabulary


def save_student(model: StudentModel, description: Description, path: Path) -> None:
    """Write a student."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=description.metadata()))


def load_student(path: Path) -> tuple[StudentModel, Vocabulary, Description, str]:
    """Load a student in evaluation mode, its vocabulary and description, and the sha256 of its file.

    Raises:
        CheckpointError: the file is no such model, its tensors are not those of the model that it describes, or
            they are NaN or infinite.
    """
    description = read_description(path)
    vocabulary = Vocabulary(description.vocabulary)
    model = StudentModel(description.text, len(vocabulary), description.image_dim, description.dim)
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: its tensors cannot be read: {error}") from error
    load_into(model, state, str(path))
    return model.eval(), vocabulary, description, file_digest(path)

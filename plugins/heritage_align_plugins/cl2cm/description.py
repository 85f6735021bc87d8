"""What a model's file says of the model: readable without torch and without its tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from heritage_align.plugin import CheckpointError, refuse_foreign
from heritage_align_plugins.cl2cm.settings import TextSettings

FORMAT = "heritage_align/cl2cm/1"
"""The one key of the metadata: several are written in any order, and the same model would be another file."""


@dataclass(frozen=True)
class Description:
    """A trained student.

    Attributes:
        dim: width of the common space.
        image_dim: width of the image vectors that it projects.
        mode: how it was trained.
        source: language of the human captions.
        target: language of the translations.
        text: size of the text model.
        vocabulary: its tokens.
    """

    dim: int
    image_dim: int
    mode: str
    source: str
    target: str
    text: TextSettings
    vocabulary: tuple[str, ...]

    def metadata(self) -> dict[str, str]:
        """Return the file's metadata; `read_description` reads them back."""
        document = {**vars(self), "text": self.text.model_dump(), "vocabulary": list(self.vocabulary)}
        return {FORMAT: json.dumps(document, ensure_ascii=False)}


def read_description(path: Path) -> Description:
    """Read the metadata; raises CheckpointError where the file is not such a model's."""
    refuse_foreign(path)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        if FORMAT not in metadata:
            raise CheckpointError(f"{path}: is no cl2cm model (its metadata have no {FORMAT!r})")
        document = json.loads(metadata[FORMAT])
        return Description(
            int(document["dim"]),
            int(document["image_dim"]),
            str(document["mode"]),
            str(document["source"]),
            str(document["target"]),
            TextSettings.model_validate(document["text"]),
            tuple(map(str, document["vocabulary"])),
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, ValidationError) as error:
        raise CheckpointError(f"{path}: cannot be read as a cl2cm model: {error}") from error

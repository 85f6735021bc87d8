"""What a model's file says of the model: readable without torch and without its tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heritage_align.plugin import read_metadata
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
    return read_metadata(path, FORMAT, "a cl2cm model", _parsed)


def _parsed(document: dict[str, Any]) -> Description:
    return Description(
        int(document["dim"]),
        int(document["image_dim"]),
        str(document["mode"]),
        str(document["source"]),
        str(document["target"]),
        TextSettings.model_validate(document["text"]),
        tuple(map(str, document["vocabulary"])),
    )

"""What an alignment model's file says of the model: readable without torch and without its tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from heritage_align.errors import CheckpointError
from heritage_align_plugins.alignment.settings import ModelSettings

FORMAT = "heritage_align/alignment/1"


@dataclass(frozen=True)
class Description:
    """What a file's metadata says of the model, readable without its tensors."""

    settings: ModelSettings
    feature_dim: int
    features: bool
    vocabulary: Mapping[str, Any]


def read_description(path: Path) -> Description:
    """Read the metadata; raises CheckpointError where the file is not an alignment model's."""
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path}: is not an alignment model (format {FORMAT}); `train` writes them")
        document = json.loads(metadata["model"])
        return Description(
            ModelSettings.model_validate(document["settings"]),
            int(document["feature_dim"]),
            bool(document["features"]),
            document["vocabulary"],
        )
    except (OSError, SafetensorError, KeyError, ValueError, ValidationError) as error:
        raise CheckpointError(f"{path}: cannot be read as an alignment model: {error}") from error

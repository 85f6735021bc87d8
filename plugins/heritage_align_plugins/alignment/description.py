"""What an alignment model's file says of the model: readable without torch and without its tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heritage_align.plugin import read_metadata
from heritage_align_plugins.alignment.settings import ModelSettings
from heritage_align_plugins.alignment.text.tokens import Vocabulary

FORMAT = "heritage_align/alignment/1"
"""The one key of the metadata: several are written in any order, and the same model would be another file."""


@dataclass(frozen=True)
class Description:
    """A trained model.

    Attributes:
        settings: widths and text models.
        feature_dim: width of the features that it projects.
        features: whether these are a proposer's own (True) or the vectors of an encoder below.
        vocabulary: of the text models that were trained from scratch.
    """

    settings: ModelSettings
    feature_dim: int
    features: bool
    vocabulary: Vocabulary

    def metadata(self) -> dict[str, str]:
        """Return the file's metadata; `read_description` reads them back."""
        document = {
            "settings": self.settings.model_dump(mode="json"),
            "feature_dim": self.feature_dim,
            "features": self.features,
            "vocabulary": self.vocabulary.asdict(),
        }
        return {FORMAT: json.dumps(document, ensure_ascii=False)}


def read_description(path: Path) -> Description:
    """Read the metadata; raises CheckpointError where the file is not an alignment model's."""
    return read_metadata(path, FORMAT, "an alignment model", _parsed)


def _parsed(document: dict[str, Any]) -> Description:
    return Description(
        ModelSettings.model_validate(document["settings"]),
        int(document["feature_dim"]),
        bool(document["features"]),
        Vocabulary.from_dict(document["vocabulary"]),
    )

"""Settings of the components, and what a model folder says about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from heritage_align.plugin import CheckpointError, ComponentConfig, Facts, ModelPart, ModelSource, RerankerConfig
from heritage_align_plugins.transformers.config import local_folder, read_json
from heritage_align_plugins.transformers.files import WEIGHTS, library_model

LIBRARY_FILE, MODULES_FILE, MODEL_FILE = "config_sentence_transformers.json", "modules.json", "config.json"
TEXT_SETTINGS = ("query_prompt",)

_TAKES = {
    "SentenceTransformer": "encoder {name: sentence_transformers}",
    "MultiVectorEncoder": "encoder {name: multi_vector}",
    "CrossEncoder": "search.last: {name: cross_encoder}",
}
"""Class of the library -> the component that takes its models."""
_NATIVE = {
    "chinese_clip": "transformers",
    "clip": "transformers",
    "siglip": "transformers",
    "siglip2": "transformers",
    "fgclip": "fg_clip",
    "fgclip2": "fg_clip",
}
"""Type of a model of the transformers library -> the encoder that reads it without this one."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        min_length=1, description="local folder, or name on the Hugging Face hub of a model that is in its cache"
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub; a commit pins the files")

    def folder(self) -> Path | None:
        """Return the local folder, None for a name on the hub."""
        return local_folder(self.model)

    def models(self) -> tuple[ModelSource, ...]:
        """Return the model's settings and weights; those of modules in folders are not listed."""
        settings = ModelPart("settings", ((MODULES_FILE,), (MODEL_FILE,)))
        weights = ModelPart("weights", WEIGHTS.any_of, needed=False)
        return (library_model(self.model, self.folder(), self.revision, settings, weights),)


class WholeConfig(_Model, ComponentConfig):
    """A SentenceTransformer, and how it is asked."""

    dim: int | None = Field(
        None,
        ge=1,
        description="first dimensions of the vectors that are kept, for models trained so (Matryoshka); all by default",
    )
    document_prompt: str | None = Field(
        None, description="instruction put before pictures; that of the model's own files by default, '' for none"
    )
    query_prompt: str | None = Field(None, description="instruction put before texts, likewise")
    max_pixels: int = Field(
        1_310_720,
        ge=1,
        description="pixels beyond which a picture is made smaller before the model's own processor sees it",
    )

    def facts(self) -> Facts:
        """Return what the folder says; of a hub model nothing is known before it is loaded."""
        return Facts(dim=self.dim, files=_files(self.folder(), "SentenceTransformer"), text_settings=TEXT_SETTINGS)


class MultiVectorConfig(_Model, ComponentConfig):
    """A MultiVectorEncoder, and how it is asked."""

    document_prompt: str | None = Field(
        None, description="instruction put before pictures; that of the model's own files by default, '' for none"
    )
    query_prompt: str | None = Field(None, description="instruction put before texts, likewise")

    def facts(self) -> Facts:
        """Return what the folder says; of a hub model nothing is known before it is loaded."""
        return Facts(files=_files(self.folder(), "MultiVectorEncoder"), text_settings=TEXT_SETTINGS)


class PictureTokensConfig(ComponentConfig):
    """How many pictures the encoder sees at once."""

    batch_size: int = Field(4, ge=1, description="pictures encoded at once; each may have thousands of tokens")


class QueryTokensConfig(ComponentConfig):
    """Nothing to set: the model says what its tokens are."""


class CrossEncoderConfig(_Model, RerankerConfig):
    """A CrossEncoder, and how it is asked."""

    prompt: str | None = Field(
        None, description="instruction put before each pair; that of the model's own files by default, '' for none"
    )
    batch_size: int = Field(4, ge=1, description="pairs rated at once")

    def facts(self) -> Facts:
        """Return what the folder says; of a hub model nothing is known before it is loaded."""
        return Facts(files=_files(self.folder(), "CrossEncoder"))


def _files(folder: Path | None, wanted: str) -> dict[str, Path]:
    if folder is None:
        return {}
    if (folder / MODEL_FILE).is_file() or (folder / MODULES_FILE).is_file():
        refuse_other_family(folder, wanted)
    return {"model": folder}


def refuse_other_family(folder: Path, wanted: str) -> None:
    """Raise CheckpointError, that names the right component, where a folder holds another class's model.

    Args:
        folder: of the model.
        wanted: class of the library, a key of `_TAKES`.
    """
    if (folder / MODULES_FILE).is_file():
        found = _read(folder / LIBRARY_FILE).get("model_type", "SentenceTransformer")
        if found != wanted:
            named = f"; take {_TAKES[found]}" if found in _TAKES else ""
            raise CheckpointError(f"{folder}: {LIBRARY_FILE} says {found}, not {wanted}{named}")
        return
    settings = _read(folder / MODEL_FILE)
    architecture = next(iter(settings.get("architectures") or [""]))
    if wanted == "MultiVectorEncoder" and architecture.endswith("ForRetrieval"):
        return  # the library knows these without a file of its own
    if architecture.endswith("ForRetrieval"):
        raise CheckpointError(f"{folder}: holds a {architecture}; take {_TAKES['MultiVectorEncoder']}")
    kind = settings.get("model_type")
    hint = f"; encoder {{name: {_NATIVE[kind]}}} reads a {kind} model" if kind in _NATIVE else ""
    raise CheckpointError(f"{folder}: there is no {MODULES_FILE}, so it is no {wanted} of sentence-transformers{hint}")


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object, {} where there is no file; raises CheckpointError that names one which cannot be read."""
    return read_json(path) if path.is_file() else {}

"""Settings of the components, and what a model folder says about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from heritage_align.plugin import (
    CheckpointError,
    ComponentConfig,
    Facts,
    ModelPart,
    ModelSource,
    RerankerConfig,
)
from heritage_align_plugins.sentence_transformers.modules import (
    LIBRARY_FILE,
    MODEL_FILE,
    MODULES,
    MODULES_FILE,
    backbone,
    saved_model,
)
from heritage_align_plugins.transformers.config import local_folder, read_if_there
from heritage_align_plugins.transformers.files import SETTINGS, TOKENIZER, WEIGHTS, is_name, library_model

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
    library_class: ClassVar[str]

    model: str = Field(
        min_length=1, description="local folder, or name on the Hugging Face hub of a model that is in its cache"
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub; a commit pins the files")

    def folder(self) -> Path | None:
        """Return the local folder, None for a name on the hub."""
        return local_folder(self.model)

    def models(self) -> tuple[ModelSource, ...]:
        """Return the files of the model's modules, and those of a model that it was trained on as an adapter.

        Raises:
            CheckpointError: the model that is here is of another class, needs code of its own, or has settings that
                cannot be read.
        """
        unread = (ModelPart("settings", ((MODULES_FILE,), (MODEL_FILE,))), WEIGHTS, TOKENIZER)
        source = library_model(self.model, self.folder(), self.revision, *unread)
        here = source.here()
        if here is None or unread[0].found(here) is None:
            return (source,)
        refuse_other_family(here, self.library_class)
        read = list(saved_model(here) if (here / MODULES_FILE).is_file() else backbone(here))
        parts = dict.fromkeys(part for part in read if isinstance(part, ModelPart))
        others = [other for other in read if isinstance(other, ModelSource)]
        return (library_model(self.model, self.folder(), self.revision, *parts), *others)

    @classmethod
    def for_model(cls, name: str) -> Any:
        """Return the settings that read a model of this class, known by its files."""
        here = library_model(name, local_folder(name), None, MODULES, SETTINGS).here() if is_name(name) else None
        return cls(model=name) if here is not None and class_of(here) == cls.library_class else None


class WholeConfig(_Model, ComponentConfig):
    """A SentenceTransformer, and how it is asked."""

    library_class: ClassVar[str] = "SentenceTransformer"

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
        return Facts(dim=self.dim, files=_files(self.folder(), self.library_class), text_settings=TEXT_SETTINGS)


class MultiVectorConfig(_Model, ComponentConfig):
    """A MultiVectorEncoder, and how it is asked."""

    library_class: ClassVar[str] = "MultiVectorEncoder"

    document_prompt: str | None = Field(
        None, description="instruction put before pictures; that of the model's own files by default, '' for none"
    )
    query_prompt: str | None = Field(None, description="instruction put before texts, likewise")

    def facts(self) -> Facts:
        """Return what the folder says; of a hub model nothing is known before it is loaded."""
        return Facts(files=_files(self.folder(), self.library_class), text_settings=TEXT_SETTINGS)


class PictureTokensConfig(ComponentConfig):
    """How many pictures the encoder sees at once."""

    batch_size: int = Field(4, ge=1, description="pictures encoded at once; each may have thousands of tokens")


class QueryTokensConfig(ComponentConfig):
    """Nothing to set: the model says what its tokens are."""


class CrossEncoderConfig(_Model, RerankerConfig):
    """A CrossEncoder, and how it is asked."""

    library_class: ClassVar[str] = "CrossEncoder"

    prompt: str | None = Field(
        None, description="instruction put before each pair; that of the model's own files by default, '' for none"
    )
    batch_size: int = Field(4, ge=1, description="pairs rated at once")

    def facts(self) -> Facts:
        """Return what the folder says; of a hub model nothing is known before it is loaded."""
        return Facts(files=_files(self.folder(), self.library_class))


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
    found = class_of(folder)
    if found == wanted:
        return
    if (folder / MODULES_FILE).is_file():
        named = f"; take {_TAKES[found]}" if found in _TAKES else ""
        raise CheckpointError(f"{folder}: {LIBRARY_FILE} says {found}, not {wanted}{named}")
    settings = read_if_there(folder / MODEL_FILE)
    if found is not None:
        raise CheckpointError(
            f"{folder}: holds a {', '.join(map(str, settings['architectures']))}; take {_TAKES[found]}"
        )
    kind = str(settings.get("model_type"))
    hint = f"; encoder {{name: {_NATIVE[kind]}}} reads a {kind} model" if kind in _NATIVE else ""
    raise CheckpointError(f"{folder}: there is no {MODULES_FILE}, so it is no {wanted} of sentence-transformers{hint}")


def class_of(folder: Path) -> str | None:
    """Return the library's class of the model in a folder, None where its files name none.

    Raises:
        CheckpointError: its settings cannot be read.
    """
    if (folder / MODULES_FILE).is_file():
        return str(read_if_there(folder / LIBRARY_FILE).get("model_type", "SentenceTransformer"))
    architectures = read_if_there(folder / MODEL_FILE).get("architectures")
    names = architectures if isinstance(architectures, list) else []
    named = any(isinstance(name, str) and name.endswith("ForRetrieval") for name in names)
    return "MultiVectorEncoder" if named else None  # the library knows these without a file of its own

"""Settings of the reranker that asks a vision-language model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from heritage_align.plugin import Facts, ModelSource, RerankerConfig, read_settings
from heritage_align_plugins.transformers.config import has_template, local_folder
from heritage_align_plugins.transformers.files import (
    CHAT,
    PICTURES,
    SETTINGS,
    TOKENIZER,
    TOKENIZER_SETTINGS,
    WEIGHTS,
    is_name,
    library_model,
)

_WRITES = "ForConditionalGeneration"


class YesNoConfig(RerankerConfig):
    """A model that answers questions about pictures, and what it is asked."""

    model: str = Field(
        min_length=1, description="local folder, or name on the Hugging Face hub of a model that is in its cache"
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub; a commit pins the files")
    question: str = Field(
        "Does this picture show what the following text describes? Answer yes or no.\n{text}",
        description="what is asked of each picture; {text} stands for the query",
    )
    yes: str = Field("yes", min_length=1, description="the answer that counts for a picture; one token of the model")
    no: str = Field("no", min_length=1, description="the answer that counts against it; one token of the model")
    batch_size: int = Field(4, ge=1, description="pictures looked at at once")

    @field_validator("question")
    @classmethod
    def _has_a_place_for_the_text(cls, question: str) -> str:
        if "{text}" not in question:
            raise ValueError("has no {text}, which stands for the query")
        return question

    @model_validator(mode="after")
    def _answers_differ(self) -> YesNoConfig:
        if self.yes == self.no:
            raise ValueError(f"no: is {self.no!r}, as yes is: every picture would be rated 0.5")
        return self

    def folder(self) -> Path | None:
        """Return the local folder, None for a name on the hub."""
        return local_folder(self.model)

    def models(self) -> tuple[ModelSource, ...]:
        """Return the model's files, the template of conversations among them."""
        parts = (SETTINGS, WEIGHTS, TOKENIZER, TOKENIZER_SETTINGS, PICTURES)
        here = library_model(self.model, self.folder(), self.revision, *parts).here()
        chat = replace(CHAT, needed=here is None or not has_template(here))
        return (library_model(self.model, self.folder(), self.revision, *parts, chat),)

    @classmethod
    def for_model(cls, name: str) -> YesNoConfig | None:
        """Return the settings that read a model which sees pictures and writes text, known by its files.

        A reranker of sentence-transformers may be such a model inside, and is read as what it was saved as.
        """
        here = library_model(name, local_folder(name), None, SETTINGS).here() if is_name(name) else None
        if here is None or not (here / "config.json").is_file() or (here / "modules.json").is_file():
            return None
        settings = read_settings(here / "config.json")
        architectures = settings.get("architectures")
        writes = isinstance(architectures, list) and any(str(one).endswith(_WRITES) for one in architectures)
        return cls(model=name) if writes and "vision_config" in settings else None

    def facts(self) -> Facts:
        """Return what must be there; of a hub model nothing is known before it is loaded."""
        folder = self.folder()
        return Facts() if folder is None else Facts(files={"model": folder / "config.json"})

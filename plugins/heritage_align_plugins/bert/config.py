"""Settings of the BERT phrase encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from heritage_align.plugin import ComponentConfig, Facts, ModelSource, read_settings
from heritage_align_plugins.transformers.config import local_folder, type_of
from heritage_align_plugins.transformers.files import (
    SETTINGS,
    TOKENIZER,
    TOKENIZER_SETTINGS,
    WEIGHTS,
    library_model,
)


class BertConfig(ComponentConfig):
    """A BERT, the layer that is read, and how its tokens become one vector."""

    model: str = Field("bert-base-uncased", min_length=1, description="local folder, or name on the Hugging Face hub")
    revision: str | None = Field(None, description="branch, tag or commit on the hub; a commit pins the files")
    layer: int = Field(
        -2,
        description="hidden layer: -1 is the last, -2 the one before (Sheng et al. 2021), 0 the embeddings",
    )
    pooling: Literal["mean", "cls"] = Field(
        "mean",
        description="mean over all tokens, [CLS] and [SEP] included, or [CLS] alone; the paper leaves it "
        "open, mean is our choice",
    )
    context_length: int = Field(64, ge=3, description="tokens of a phrase that are read, with [CLS] and [SEP]")
    characters: Literal["auto", "simplified", "as_written"] = Field(
        "auto",
        description="Chinese characters that are read: auto (simplified if OpenCC is installed and the vocabulary has "
        "more of them than of the traditional ones), simplified, as_written",
    )

    def folder(self) -> Path | None:
        """Return the local folder, None for a name on the hub."""
        return local_folder(self.model)

    def models(self) -> tuple[ModelSource, ...]:
        """Return the model's files."""
        parts = (SETTINGS, WEIGHTS, TOKENIZER, TOKENIZER_SETTINGS)
        return (library_model(self.model, self.folder(), self.revision, *parts),)

    @classmethod
    def for_model(cls, name: str) -> BertConfig | None:
        """Return the settings that read a BERT, known by its files, or this encoder's own default."""
        return cls(model=name) if type_of(name) == "bert" or name == cls.model_fields["model"].default else None

    def facts(self) -> Facts:
        """Return the folder's hidden size; of a hub model nothing is known before it is fetched."""
        folder = self.folder()
        if folder is None:
            return Facts()
        file = folder / "config.json"
        dim = read_settings(file).get("hidden_size") if file.is_file() else None
        return Facts(dim=dim if isinstance(dim, int) else None, files={"model": file})

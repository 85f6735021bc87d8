"""Settings of the FG-CLIP encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from heritage_align.plugin import ComponentConfig, Facts, ModelSource, read_settings
from heritage_align_plugins.fg_clip.description import describe
from heritage_align_plugins.transformers.config import local_folder, type_of
from heritage_align_plugins.transformers.files import (
    PICTURES,
    SAFETENSORS,
    SETTINGS,
    TOKENIZER,
    TOKENIZER_SETTINGS,
    is_name,
    library_model,
)

TextMode = Literal["short", "long", "box"]
TEXT_SETTINGS = ("texts", "phrases", "characters")
PARTS = (
    SETTINGS,
    SAFETENSORS,
    TOKENIZER,
    TOKENIZER_SETTINGS,
    replace(PICTURES, needed=False),
)


class FgClipConfig(ComponentConfig):
    """A published model of FG-CLIP or FG-CLIP 2, and which of its ways of reading is taken."""

    model: str = Field(
        min_length=1, description="local folder, or name on the Hugging Face hub, for example qihoo360/fg-clip2-base"
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub; a commit pins the files")
    patches: Literal["auto", 128, 256, 576, 784, 1024] = Field(
        "auto",
        description="FG-CLIP 2 only: patches of a picture at most, whose shape is kept; auto: the least of 128, 256, "
        "576, 784 and 1024 that holds a picture at its own size, as published. FG-CLIP takes squares",
    )
    regions: Literal["crops", "roi"] = Field(
        "roi",
        description="boxes of a proposer: roi, pooled out of the dense features of the whole picture, one forward pass "
        "for all of them, as the models are trained; crops, each encoded as a picture",
    )
    texts: TextMode = Field(
        "short",
        description="how whole texts are read: short (FG-CLIP 2: 64 tokens, FG-CLIP: 77), long (196, 248), box (64 "
        "tokens, the head for phrases of regions; FG-CLIP has none of its own and takes short)",
    )
    phrases: TextMode = Field("box", description="how fragments of texts, which are compared with regions, are read")
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
        return (library_model(self.model, self.folder(), self.revision, *PARTS),)

    @classmethod
    def for_model(cls, name: str) -> FgClipConfig | None:
        """Return the settings that read an FG-CLIP, known by its files or, where they are not here, by its name."""
        kind = type_of(name)
        named = kind is None and is_name(name) and "fg-clip" in name.lower()
        return cls(model=name) if named or (kind or "").startswith("fgclip") else None

    def facts(self) -> Facts:
        """Return what the folder says; of a hub model nothing is known before it is fetched.

        Raises:
            CheckpointError: the folder holds a model of another family.
        """
        boxes = ("boxes",) if self.regions == "roi" else ()
        outputs = ("global", "texts", "patches", *boxes)
        folder = self.folder()
        files = {} if folder is None else {"model": folder / "config.json"}
        if folder is None or not files["model"].is_file():
            return Facts(outputs=outputs, files=files, text_settings=TEXT_SETTINGS)
        dim = describe(read_settings(files["model"]), self.model).dim
        return Facts(dim=dim, outputs=outputs, files=files, text_settings=TEXT_SETTINGS)

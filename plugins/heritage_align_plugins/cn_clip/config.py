"""Settings of the Chinese-CLIP encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from heritage_align.plugin import ComponentConfig, Facts, ModelPart, ModelSource, did_you_mean, user_path
from heritage_align_plugins.cn_clip.architecture import (
    MOTIF_SMALL,
    OFFICIAL,
    PUBLISHED,
    Architecture,
    find_architecture,
    model_file,
)

RANDOM = "random"
CACHE = Path("~/.cache/clip").expanduser()
"""Where `cn_clip.clip.load_from_name` keeps what it fetches."""
RecipeName = Literal["plain", "clearclip", "naclip"]


TEXT_SETTINGS = ("context_length", "characters")


class CnClipConfig(ComponentConfig):
    """A Chinese-CLIP model, its weights, and how its patch features are taken."""

    model: str = Field(
        MOTIF_SMALL,
        description="RN50, ViT-B-16, ViT-L-14, ViT-L-14-336, ViT-H-14; motif-small, which is shipped; or a "
        ".json architecture or a .safetensors checkpoint that holds its own",
    )
    checkpoint: str | None = Field(
        None,
        description="weights: a file of the Chinese-CLIP project (.pt) or .safetensors; 'random' for "
        "untrained ones; may be left out where the model is motif-small or a .safetensors file",
    )
    image_size: int | None = Field(
        None, ge=1, le=4096, description="side of the square input in pixels; position embeddings are interpolated"
    )
    context_length: int | None = Field(
        None, ge=3, description="tokens of a text that are read, [CLS] and [SEP] included; 52 in the training"
    )
    characters: Literal["auto", "simplified", "as_written"] = Field(
        "auto",
        description="Chinese characters that are read: auto (simplified if OpenCC is installed, as BERT's vocabulary "
        "has more of them), simplified, as_written",
    )
    patch_features: RecipeName = Field(
        "clearclip",
        description="last block for patches: plain (as trained), clearclip (query-query attention alone), "
        "naclip (key-key attention that favours neighbours)",
    )
    naclip_sigma: float = Field(5.0, gt=0, description="reach of naclip's neighbourhood, in patches")
    regions: Literal["crops", "roi"] = Field(
        "crops",
        description="boxes of a proposer: crops, each encoded as a picture; roi, pooled out of the patches "
        "(`patch_features`) of the whole picture, one forward pass for all of them",
    )

    @model_validator(mode="after")
    def _weights_are_named(self) -> CnClipConfig:
        file = model_file(self.model)
        if file is None and self.model not in OFFICIAL:
            known = [*OFFICIAL, MOTIF_SMALL]
            raise ValueError(
                f"model: there is no {self.model!r}.{did_you_mean(self.model, known)} Known: "
                f"{', '.join(known)}, or the path of a .json or .safetensors file"
            )
        if self.checkpoint is None and (file is None or file.suffix == ".json"):
            raise ValueError(
                f"checkpoint: {self.model} needs weights, and none are shipped: name a file, for example "
                "clip_cn_vit-b-16.pt of the Chinese-CLIP project, or 'random' for untrained ones"
            )
        return self

    def architecture(self) -> Architecture:
        """Return the model's settings at its own input size; raises CheckpointError if its file does not fit."""
        return find_architecture(self.model)

    def weights_file(self) -> Path | None:
        """Return the checkpoint, None for random weights."""
        if self.checkpoint == RANDOM:
            return None
        return user_path(self.checkpoint) if self.checkpoint is not None else model_file(self.model)

    def models(self) -> tuple[ModelSource, ...]:
        """Return the file of the weights, and that of the architecture where it is another."""
        weights, settings = self.weights_file(), model_file(self.model)
        named = {"weights": weights, "settings": settings if settings != weights else None}
        known = PUBLISHED.get(self.model)
        sources = []
        for what, path in named.items():
            if path is not None:
                published = known is not None and what == "weights" and path.name == known[1]
                repository = known[0] if known is not None and published else None
                parts = (ModelPart(what, ((path.name,),)),)
                sources.append(ModelSource(str(path), parts, path.parent, repository=repository))
        return tuple(sources)

    @classmethod
    def for_model(cls, name: str) -> CnClipConfig | None:
        """Return the settings that read a published size from the folder in which cn_clip keeps it, or a file."""
        if name in PUBLISHED:
            return cls(model=name, checkpoint=str(CACHE / PUBLISHED[name][1]))
        return cls(model=name) if name == MOTIF_SMALL or name.endswith(".safetensors") else None

    def facts(self) -> Facts:
        """Return dimensions and files; a model without patches does not give them.

        Raises:
            ValueError: `regions` is roi and the model has no patches to pool; or `image_size` or `context_length`
                does not suit the model.
        """
        weights = self.weights_file() if self.checkpoint is not None else None
        named = {"model": model_file(self.model), "checkpoint": weights}
        files = {key: path for key, path in named.items() if path is not None}
        if "model" in files and not files["model"].is_file():
            return Facts(files=files, text_settings=TEXT_SETTINGS)
        architecture = self.architecture()
        if self.image_size is not None:
            architecture = architecture.at(self.image_size)
        if self.context_length is not None:
            architecture = architecture.reading(self.context_length)
        dense = ["patches"] if architecture.patch_grid else []
        if self.regions == "roi":
            if not dense:
                raise ValueError(
                    f"regions: roi pools patch features, and {architecture.name}, a ResNet, has none; leave it at crops"
                )
            dense.append("boxes")
        return Facts(
            dim=architecture.embed_dim, outputs=("global", "texts", *dense), files=files, text_settings=TEXT_SETTINGS
        )

"""Settings of the motif collection."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heritage_align.plugin import ComponentConfig


class MotifsConfig(ComponentConfig):
    """A split of the motif collection. Pictures are drawn when they are asked for; nothing is stored."""

    split: Literal["train", "val", "test"] = Field("test", description="splits share no artwork")
    artworks: int = Field(125, ge=1, description="designs; the collection has artworks x variants pictures")
    variants: int = Field(4, ge=1, description="pictures of one design that differ in a single detail")
    size: int = Field(256, ge=64, le=2048, description="side of a picture in pixels")
    language: Literal["zh", "en", "both"] = Field("both", description="captions, one a picture and language")
    domain: Literal["general", "specialist"] = Field("general", description="a visitor's or a catalogue's words")
    noise: float = Field(0.0, ge=0, le=1, description="share of English words that a bad translation hits")
    seed: int = Field(0, ge=0, description="seed of the collection, which is not the seed of a run")

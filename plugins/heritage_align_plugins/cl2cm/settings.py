"""Settings of the text model, kept in the checkpoint."""

from __future__ import annotations

from pydantic import Field, model_validator

from heritage_align.plugin import ComponentConfig


class TextSettings(ComponentConfig):
    """A small transformer trained from scratch. The paper tunes mBERT; this size is ours."""

    width: int = Field(64, ge=2, description="of the token states")
    layers: int = Field(1, ge=1, description="transformer layers")
    heads: int = Field(4, ge=1, description="attention heads; must divide width")
    dropout: float = Field(0.1, ge=0, lt=1, description="in training")
    context_length: int = Field(64, ge=1, description="tokens of a text that are read")
    min_count: int = Field(1, ge=1, description="texts in which a token must occur to enter the vocabulary")

    @model_validator(mode="after")
    def _heads_divide(self) -> TextSettings:
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} do not divide width {self.width}")
        return self

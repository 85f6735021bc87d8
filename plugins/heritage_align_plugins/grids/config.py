"""Settings of the grid proposer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heritage_align.plugin import ComponentConfig, Facts


class PatchGridConfig(ComponentConfig):
    """Which grid to lay over the picture."""

    mode: Literal["tokens", "windows"] = Field(
        "tokens",
        description="tokens: the patches of the encoder's ViT, encoded in the forward pass of the whole "
        "picture; windows: parts of the picture, each encoded as a crop.",
    )
    scales: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        (1, 2, 3),
        min_length=1,
        description="windows only: a scale s gives s x s windows; 1 is the whole picture.",
    )
    overlap: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="windows only: the part of a window's side that it shares with its neighbour.",
    )

    def facts(self) -> Facts:
        """Tokens come as patch features of the encoder, windows as crops for it to encode."""
        return Facts(outputs=("patches",) if self.mode == "tokens" else ("crops",))

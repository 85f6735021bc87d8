"""Settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from heritage_align.plugin import ComponentConfig, Facts, Kind
from heritage_align.training import TrainerConfig


class BridgeTrainerConfig(TrainerConfig):
    """What `train` has beside data and schedule."""

    temperature: float = Field(0.05, gt=0, description="of the softmax over the batch")


class BridgeConfig(ComponentConfig):
    """The encoder."""

    checkpoint: Path = Field(description="the matrix, written by trainer bridge")
    base: dict[str, Any] = Field(description="the encoder below, {name: ..., settings}")

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        """Return the encoder below."""
        return {"base": ("encoder", self.base)}

    def facts(self) -> Facts:
        """Name the file, so that its absence is told before a model is loaded."""
        return Facts(files={"checkpoint": self.checkpoint})

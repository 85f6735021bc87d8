"""Settings of the proposer whose features are an encoder's."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from heritage_align.plugin import ComponentConfig, Facts, Kind


class EncodedConfig(ComponentConfig):
    """Whose regions, and which encoder describes them."""

    proposer: dict[str, Any] = Field(description="{name: ..., settings} of the proposer of the boxes.")
    encoder: dict[str, Any] = Field(description="{name: ..., settings} of the encoder of pictures.")
    batch_size: int = Field(64, ge=1, description="Crops encoded at once.")

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        """Return the proposer and the encoder."""
        return {"proposer": ("proposer", self.proposer), "encoder": ("encoder", self.encoder)}

    def facts(self) -> Facts:
        """Give the width of the features, the encoder's."""
        from heritage_align.plugin import ConfigError, default_registry, resolve_component

        try:
            encoder = resolve_component("encoder", self.encoder, default_registry())
        except ConfigError:  # named where the encoder itself is resolved
            return Facts()
        return Facts(dim=encoder.settings.facts().dim)

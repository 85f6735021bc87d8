"""Features of regions by an image encoder, where a detector's second stage would give them."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the proposer that wraps another."""
    return [
        ComponentSpec(
            kind="proposer",
            name="encoded",
            target="heritage_align_plugins.encoded.proposer:Encoded",
            config="heritage_align_plugins.encoded.config:EncodedConfig",
            summary="another proposer's regions with an encoder's vectors as their features, and those of any box",
            outputs=("features",),
        )
    ]

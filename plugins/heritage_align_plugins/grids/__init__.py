"""Regions on a regular grid: the encoder's own patches, or overlapping windows at several scales."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the proposer; its outputs change with the mode (see `PatchGridConfig.facts`)."""
    return [
        ComponentSpec(
            kind="proposer",
            name="patch_grid",
            target="heritage_align_plugins.grids.proposer:PatchGrid",
            config="heritage_align_plugins.grids.config:PatchGridConfig",
            summary="the ViT's patch tokens, or windows of the picture at several scales",
            outputs=("patches",),
        )
    ]

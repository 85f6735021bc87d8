"""Regions and their features out of a file that was computed before: no detector, and no picture is opened."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the proposer."""
    return [
        ComponentSpec(
            kind="proposer",
            name="region_features",
            target="heritage_align_plugins.region_features.proposer:PrecomputedRegions",
            config="heritage_align_plugins.region_features.config:RegionFeaturesConfig",
            summary="regions and features computed before: .safetensors, bottom-up TSV, .npz or a store",
            outputs=("features",),
            role="features",
        )
    ]

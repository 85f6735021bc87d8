"""Random crops, the regions of LACLIP and WCA."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the proposer."""
    return [
        ComponentSpec(
            kind="proposer",
            name="random_crops",
            target="heritage_align_plugins.crops.proposer:RandomCrops",
            config="heritage_align_plugins.crops.config:RandomCropsConfig",
            summary="square crops of random size and place, the same for a seed and an image id",
            outputs=("crops",),
        )
    ]

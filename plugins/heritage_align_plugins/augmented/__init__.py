"""Train with changed copies of a detector's regions: colour jitter and blur (Sheng et al. 2021, section 4.1)."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the proposer that wraps another."""
    return [
        ComponentSpec(
            kind="proposer",
            name="augmented",
            target="heritage_align_plugins.augmented.proposer:Augmented",
            config="heritage_align_plugins.augmented.config:AugmentedConfig",
            summary="another proposer's regions with the features of changed copies, added or averaged; for training",
            outputs=("features",),
        )
    ]

"""Describes the component; what it computes with is imported on first use."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Register the proposer."""
    return [
        ComponentSpec(
            "proposer",
            "saliency_boxes",
            target="heritage_align_saliency.proposer:SaliencyBoxes",
            config="heritage_align_saliency.config:SaliencyBoxesConfig",
            summary="parts that stand out from the pattern around them (spectral residual), no weights",
            outputs=("crops",),
        )
    ]

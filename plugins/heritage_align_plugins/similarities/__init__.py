"""Similarities: global cosine, SCAN and BFAN, LACLIP and its neighbours, late interaction, weighted sums."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl

_HERE = "heritage_align_plugins.similarities"


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Register the scores that the kernels of `heritage_align.ops` compute."""
    return [
        ComponentSpec(
            "similarity",
            "global",
            target=f"{_HERE}.global_similarity:GlobalSimilarity",
            config=f"{_HERE}.config:GlobalConfig",
            summary="cosine of the whole image and the whole text (CLIP)",
            inputs=("image.global", "text.global"),
            outputs=("folds", "in_place"),
        ),
        ComponentSpec(
            "similarity",
            "scan",
            target=f"{_HERE}.focal:ScanSimilarity",
            config=f"{_HERE}.config:ScanConfig",
            summary="stacked cross attention over regions and fragments (SCAN; BFAN with the bfan_focal filter)",
            inputs=("image.regions", "text.fragments", "keep?", "attention?", "image.factor?"),
            outputs=("in_place",),
        ),
        ComponentSpec(
            "similarity",
            "laclip",
            target=f"{_HERE}.local:LaclipSimilarity",
            config=f"{_HERE}.config:LaclipConfig",
            summary="regions weighted by the image (LACLIP, WCA: folds) or by the text (one kernel pass)",
            inputs=("image.global", "image.regions", "text.global", "keep?"),
            outputs=("folds", "in_place"),
        ),
        ComponentSpec(
            "similarity",
            "late_interaction",
            target=f"{_HERE}.late:LateInteractionSimilarity",
            config=f"{_HERE}.config:LateInteractionConfig",
            summary="every fragment takes its best region (MaxSim)",
            inputs=("image.regions", "text.fragments", "keep?"),
            outputs=("in_place",),
        ),
        ComponentSpec(
            "similarity",
            "weighted_sum",
            target=f"{_HERE}.weighted_sum:WeightedSumSimilarity",
            config=f"{_HERE}.config:WeightedSumConfig",
            summary="weighted sum of similarities (the _GB models add the global level so)",
            outputs=("in_place",),
        ),
    ]

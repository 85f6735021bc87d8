"""The motif collection as a data set for pipelines."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Register the collection."""
    return [
        ComponentSpec(
            "dataset",
            "motifs",
            target="heritage_align_plugins.motifs.dataset:MotifsDataset",
            config="heritage_align_plugins.motifs.config:MotifsConfig",
            summary="silk patterns drawn from a seed, bilingual captions, exact regions of phrases",
        )
    ]

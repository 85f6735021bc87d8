"""First-stage search by a Qdrant server, or by its client alone, in memory."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Register the index."""
    return [
        ComponentSpec(
            "index",
            "qdrant",
            target="heritage_align_plugins.qdrant_index.index:QdrantIndex",
            config="heritage_align_plugins.qdrant_index.config:QdrantIndexConfig",
            summary="a collection of a Qdrant server, or of its client in memory without one",
            requires=("qdrant_client",),
            install="pip install 'heritage-align[qdrant]'",
        )
    ]

"""Approximate first-stage search with faiss: built once, kept beside the store."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Register the index."""
    return [
        ComponentSpec(
            "index",
            "faiss",
            target="heritage_align_plugins.faiss_index.index:FaissIndex",
            config="heritage_align_plugins.faiss_index.config:FaissIndexConfig",
            summary="faiss: inverted lists, HNSW graphs, product quantisation or flat, kept beside the store",
            requires=("faiss",),
            install="pip install 'heritage-align[faiss]'",
        )
    ]

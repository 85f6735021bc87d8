"""Exact first-stage search: every vector is looked at, in blocks of bounded size."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Register the exact index."""
    return [
        ComponentSpec(
            "index",
            "exact",
            target="heritage_align_plugins.exact_index.index:ExactIndex",
            config="heritage_align_plugins.exact_index.config:ExactIndexConfig",
            summary="matrix product and top-k over memory-mapped vectors, in blocks of bounded size",
            role="default",
        )
    ]

"""The focal step of BFAN and of Sheng et al.: which fragments keep their attention."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the filter."""
    return [
        ComponentSpec(
            kind="filter",
            name="bfan_focal",
            target="heritage_align_plugins.focal.filter:BfanFocal",
            config="heritage_align_plugins.focal.config:BfanFocalConfig",
            summary="drops fragments that a query attends to less than to the others, inside the similarity",
            outputs=("attention",),
        )
    ]

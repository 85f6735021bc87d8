"""Regions of a Faster R-CNN (Ren et al. 2015): torchvision's, or any of detectron2."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the proposer; detectron2 is looked for only where a configuration asks for it."""
    return [
        ComponentSpec(
            kind="proposer",
            name="faster_rcnn",
            target="heritage_align_plugins.faster_rcnn.proposer:FasterRcnn",
            config="heritage_align_plugins.faster_rcnn.config:FasterRcnnConfig",
            summary="the regions that a detector finds most likely to be objects",
            outputs=("crops",),
            requires=("torchvision",),
            install="pip install torchvision",
        )
    ]

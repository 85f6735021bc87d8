"""SIFT keypoints: the filter of Sheng et al. 2021, and a last look that finds details by them."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the filter and the reranker."""
    return [
        ComponentSpec(
            kind="filter",
            name="sift",
            target="heritage_align_plugins.sift.filter:SiftFilter",
            config="heritage_align_plugins.sift.config:SiftConfig",
            summary="keeps regions with at least min_keypoints SIFT keypoints",
            outputs=("keep",),
            requires=("cv2",),
            install="pip install opencv-contrib-python",
        ),
        ComponentSpec(
            kind="reranker",
            name="keypoints",
            target="heritage_align_plugins.sift.keypoints:KeypointReranker",
            config="heritage_align_plugins.sift.keypoints_config:KeypointsConfig",
            summary="finds a detail by keypoints that fit together, whatever its colours, scale and direction",
            outputs=("details",),
            requires=("cv2",),
            install="pip install opencv-contrib-python",
            role="details",
        ),
    ]

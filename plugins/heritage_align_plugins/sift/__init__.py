"""The SIFT filter of Sheng et al. 2021: regions without distinctive points get no attention."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the filter."""
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
        )
    ]

"""Settings of the SIFT filter."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heritage_align.plugin import ComponentConfig, Facts


class SiftConfig(ComponentConfig):
    """When a region counts as distinctive.

    Sheng et al. 2021 give z = 2 and no settings of the detector, on which the mask depends with so low a
    threshold: the defaults below are OpenCV's.
    """

    min_keypoints: int = Field(
        2,
        ge=0,
        description="z: keep iff keypoints >= z (Sheng et al. 2021, eq. 11; their prose says greater).",
    )
    mode: Literal["per_crop", "per_image"] = Field(
        "per_crop",
        description="per_crop: each region is a picture of its own, as in the paper; per_image: detect once and "
        "count the keypoints inside each box, which finds more at their edges.",
    )
    contrast_threshold: float = Field(
        0.04, ge=0.0, description="OpenCV's contrastThreshold: higher drops more keypoints of low contrast."
    )
    edge_threshold: float = Field(
        10.0, gt=0.0, description="OpenCV's edgeThreshold: lower drops more keypoints that lie along an edge."
    )
    octave_layers: int = Field(3, ge=1, description="OpenCV's nOctaveLayers.")
    sigma: float = Field(1.6, gt=0.0, description="OpenCV's sigma: blur of the first octave, in pixels.")

    def facts(self) -> Facts:
        """Leave the mask to the reader of a file that has the keypoints of its regions."""
        return Facts(stored={"keypoints": {"min_keypoints": self.min_keypoints}})

"""Settings of the last look at keypoints."""

from __future__ import annotations

from pydantic import Field

from heritage_align.plugin import RerankerConfig


class KeypointsConfig(RerankerConfig):
    """Which keypoints there are, which of them match, and how well matches must fit together."""

    candidates: int = Field(50, ge=1, description="best answers of the similarity that are looked at, and ranked anew")
    ratio: float = Field(
        0.8,
        gt=0.0,
        le=1.0,
        description="a keypoint matches its nearest if that is nearer than this share of the second nearest's "
        "distance; 0.8 is Lowe's",
    )
    tolerance: float = Field(
        0.05, gt=0.0, description="by how much of the detail's longer side a match may miss the common transform"
    )
    least: float = Field(
        1.0,
        ge=0.0,
        description="score below which a picture counts as one without the detail: accidents reach 1 in one picture of "
        "ten, 2 in one of a hundred",
    )
    keypoints: int = Field(600, ge=1, le=5000, description="of a picture at most, those of the highest contrast")
    contrast_threshold: float = Field(
        0.02, ge=0.0, description="OpenCV's contrastThreshold: higher drops more keypoints of low contrast."
    )
    max_pixels: int = Field(
        300_000,
        ge=256,
        description="width x height to which pictures are scaled down; small ones are enlarged by half, up to this",
    )
    kept: int = Field(
        250, ge=0, description="pictures whose keypoints are kept in memory for the next detail, 0.3 MB each"
    )

"""Settings of the precomputed regions."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from heritage_align.data import feature_dim
from heritage_align.plugin import ComponentConfig, Facts


class RegionFeaturesConfig(ComponentConfig):
    """Which file, and which of its regions. The default count is that of Sheng et al. 2021."""

    path: Path = Field(
        description="A .safetensors, .tsv (bottom-up attention) or .npz file, a folder of .npz files or a store."
    )
    count: int | None = Field(
        10, ge=1, description="Regions a picture at most, the best by objectness; null takes all."
    )
    empty: Literal["error", "whole"] = Field(
        "error",
        description="A picture without regions: error, or whole: its one region is the picture, with the file's "
        "global feature.",
    )
    min_keypoints: int | None = Field(
        None,
        ge=0,
        description="Mask regions with fewer SIFT keypoints (Sheng et al. 2021, eq. 11, z = 2), as the file counts "
        "them; null masks only what the file masks.",
    )

    def facts(self) -> Facts:
        """Name the file; the width comes from its header."""
        return Facts(dim=feature_dim(self.path) if self.path.exists() else None, files={"path": self.path})

"""Settings of the augmenting proposer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from heritage_align.plugin import ComponentConfig, Kind


class AugmentedConfig(ComponentConfig):
    """Whose regions, how they are changed, and how the copies are used.

    The paper gives no strengths; the defaults are those of MoCo v2 (Chen et al. 2020).
    """

    proposer: dict[str, Any] = Field(
        description="{name: ..., settings} of a proposer that gives features of regions and of any box."
    )
    form: Literal["add", "mean"] = Field(
        "add",
        description="Every copy is one more region (add), or a region is the mean of itself and its copies (mean).",
    )
    copies: int = Field(1, ge=1, description="Changed copies of a picture; each costs one more pass of the detector.")
    brightness: float = Field(0.4, ge=0, le=1, description="The factor is drawn from 1 - x to 1 + x.")
    contrast: float = Field(0.4, ge=0, le=1, description="The factor is drawn from 1 - x to 1 + x.")
    saturation: float = Field(0.4, ge=0, le=1, description="The factor is drawn from 1 - x to 1 + x.")
    hue: float = Field(0.1, ge=0, le=0.5, description="The shift is drawn from -x to x turns of the colour circle.")
    blur: tuple[float, float] = Field(
        (0.1, 2.0), description="Standard deviation, lowest and highest, in pixels of a picture 224 pixels wide."
    )
    blur_share: float = Field(0.5, ge=0, le=1, description="Share of the copies that are blurred.")

    @model_validator(mode="after")
    def _blur_is_a_range(self) -> AugmentedConfig:
        if not 0.0 <= self.blur[0] <= self.blur[1]:
            raise ValueError(f"blur: expected 0 <= low <= high, got {list(self.blur)}")
        return self

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        """Return the proposer that is wrapped."""
        return {"proposer": ("proposer", self.proposer)}

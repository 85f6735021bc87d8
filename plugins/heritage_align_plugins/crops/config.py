"""Settings of the random crops."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from heritage_align.plugin import ComponentConfig

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
Ratio = Annotated[float, Field(gt=0.0)]


class RandomCropsConfig(ComponentConfig):
    """How many crops, how large, how long.

    The size of a crop is what WCA's code draws (Li et al. 2024), not what its configuration says: the
    function that crops has the default 0.1 for its lower bound and is called without it. The released code
    therefore draws U(0.1, 0.9), and the ``alpha: 0.5`` of its configuration only names the cache file. The
    sizes that LACLIP (Yuan et al. 2025) draws are not published.
    """

    count: int = Field(
        10,
        ge=1,
        description="Crops a picture. LACLIP's count is not published; WCA draws 60 (ImageNet) or 100.",
    )
    scale: tuple[Fraction, Fraction] = Field(
        (0.1, 0.9), description="U(low, high) of this is drawn a crop; `scale_of` says what it is a part of."
    )
    scale_of: Literal["shorter_side", "area"] = Field(
        "shorter_side",
        description="shorter_side: a crop's side is that part of the picture's shorter side (WCA); area: a crop's area "
        "is that part of the picture's (torchvision's RandomResizedCrop, with aspect [0.75, 1.333])",
    )
    aspect: tuple[Ratio, Ratio] | None = Field(
        None,
        description="Width to height, drawn log-uniformly at constant area, for example [0.5, 2.0]; none "
        "means squares. A side longer than the picture's is cut to it.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> RandomCropsConfig:
        for name in ("scale", "aspect"):
            span = getattr(self, name)
            if span is not None and span[0] > span[1]:
                raise ValueError(f"{name}: expected [low, high], got {list(span)}")
        return self

"""Settings of the proposer."""

from __future__ import annotations

from pydantic import Field

from heritage_align.plugin import ComponentConfig


class SaliencyBoxesConfig(ComponentConfig):
    """How many regions, and how much they must stand out."""

    count: int = Field(6, ge=1, description="regions a picture at most, the most salient first")
    threshold: float = Field(
        3.0, gt=0, description="a cell is salient above this many times the mean; 3 in Hou and Zhang 2007"
    )
    whole: bool = Field(True, description="take the whole picture as a region too, as the last one")

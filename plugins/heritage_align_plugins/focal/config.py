"""Settings of the focal step."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heritage_align.plugin import ComponentConfig


class BfanFocalConfig(ComponentConfig):
    """Which published rule decides."""

    mode: Literal["equal", "prob", "sheng"] = Field(
        "prob",
        description="Confidence in the other fragments: equal (1) and prob (sqrt p) of BFAN's code keep "
        "F > 0, sheng (p; Sheng et al. 2021, eq. 13-14) keeps F >= 0.",
    )

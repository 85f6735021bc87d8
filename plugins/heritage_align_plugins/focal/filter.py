"""The focal step as a filter: what it drops depends on the text, so the similarity carries it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL.Image import Image

from heritage_align.plugin import BuildContext, Regions
from heritage_align_plugins.focal.config import BfanFocalConfig


class BfanFocal:
    """Hands ``{"focal": mode}`` to the similarity and leaves the regions as they are.

    With attention p over the fragments of the context, ``F_i = sum_j (p_i - p_j) c_j``; c_j = 1 (equal) or
    sqrt(p_j) (prob) in the code of Liu et al. 2019 (BFAN), p_j in Sheng et al. 2021, eq. 13.
    """

    def __init__(self, config: BfanFocalConfig, context: BuildContext) -> None:
        """Set `attention`."""
        self.attention: Mapping[str, Any] = {"focal": config.mode}

    def apply(self, images: Sequence[Image], regions: Sequence[Regions]) -> list[Regions]:
        """Return the regions unchanged."""
        return list(regions)

"""SCAN and BFAN scores on the focal-attention kernel."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from heritage_align import ops
from heritage_align.plugin import BuildContext, ImageFeatures, TextFeatures
from heritage_align_plugins.similarities.config import ScanConfig
from heritage_align_plugins.similarities.fragments import fragments_of
from heritage_align_plugins.similarities.kept import masked_low, regions_of


class ScanSimilarity:
    """Stacked cross attention (Lee et al. 2018); a focal step and a region mask come from the filters.

    With filter `bfan_focal` and ``direction: ens`` this is BFAN (Liu et al. 2019); with filter `sift` the _SF models of
    Sheng et al. 2021 (eqs 9 to 17).
    """

    def __init__(self, config: ScanConfig, context: BuildContext) -> None:
        self.config = config
        self._settings: dict[str, Any] = {
            "direction": "both" if config.direction == "ens" else config.direction,
            "rectifier": config.rectifier,
            "normalise": config.normalise,
            "temperature": config.temperature,
            "aggregate": config.aggregate,
            "lse_scale": config.lse_scale,
            **context.attention,
        }

    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        """Return ``(n_images, n_texts)``, or ``(n_texts, k)`` for candidates."""
        return ops.focal_attention_score(
            regions_of(images),
            fragments_of(texts),
            keep=images.keep,
            image_factor=images.factor,
            candidates=candidates,
            **self._settings,
        )

    def fold(self, images: ImageFeatures) -> None:
        """Return None: attention depends on the text."""
        return

    def respond(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Return ``(n_fragments, n_regions)`` cosines, those of masked regions -1."""
        fragments, regions = fragments_of(texts), regions_of(images)
        return masked_low(fragments.values.float() @ regions.dequantised().float().T, images)

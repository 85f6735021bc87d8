"""The global score: cosine of one vector an image and one a text."""

from __future__ import annotations

from torch import Tensor

from heritage_align.plugin import BuildContext, ImageFeatures, TextFeatures, dot
from heritage_align_plugins.similarities.config import GlobalConfig


class GlobalSimilarity:
    """``score = <u_I, u_T>`` of unit vectors (Radford et al. 2021; Yang et al. 2022)."""

    def __init__(self, config: GlobalConfig, context: BuildContext) -> None:
        self.config = config

    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        """Return ``(n_images, n_texts)``, or ``(n_texts, k)`` for candidates."""
        return dot(images.global_features, texts.global_features, candidates)

    def fold(self, images: ImageFeatures) -> Tensor:
        """Return the global vectors: they are all that the score needs."""
        return images.global_features

    def respond(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Raise: one vector an image says nothing about regions."""
        raise ValueError(
            "similarity 'global' compares whole images; to see which region answers, explain with a recipe that has "
            "regions: laclip, laclip-text, late-interaction, scan or bfan"
        )

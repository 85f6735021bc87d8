"""A weighted sum of similarities."""

from __future__ import annotations

import torch
from torch import Tensor

from heritage_align.plugin import BuildContext, ImageFeatures, Similarity, TextFeatures
from heritage_align_plugins.similarities.config import WeightedSumConfig


class WeightedSumSimilarity:
    """``sum_t weight_t score_t``; folds exactly when every term folds, because dot products are linear.

    Attributes:
        terms: weight and similarity of each.
    """

    def __init__(self, config: WeightedSumConfig, context: BuildContext) -> None:
        self.terms: list[tuple[float, Similarity]] = [
            (float(term["weight"]), context.nested[f"terms.{i}.similarity"]) for i, term in enumerate(config.terms)
        ]

    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        """Return ``(n_images, n_texts)``, or ``(n_texts, k)`` for candidates."""
        # `folded` holds the fold of the sum; a term must not take it for its own.
        bare = ImageFeatures(
            images.ids, images.global_features, images.regions, images.boxes, images.keep, images.factor
        )
        total: Tensor | None = None
        for weight, term in self.terms:
            part = weight * term.score(bare, texts, candidates)
            total = part if total is None else total + part
        assert total is not None
        return total if candidates is None else total.masked_fill(candidates < 0, float("-inf"))

    def fold(self, images: ImageFeatures) -> Tensor | None:
        """Return the weighted sum of the terms' folds, or None if one of them does not fold."""
        folds = [(weight, term.fold(images)) for weight, term in self.terms]
        if any(folded is None for _, folded in folds):
            return None
        return torch.stack([weight * folded for weight, folded in folds if folded is not None]).sum(0)

    def respond(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Return the responses of the first term that has regions."""
        errors: list[ValueError] = []
        for _, term in self.terms:
            try:
                return term.respond(images, texts)
            except ValueError as error:
                errors.append(error)
        raise errors[0]

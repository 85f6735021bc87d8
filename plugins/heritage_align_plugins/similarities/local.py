"""LACLIP and its neighbours: regions weighted by the image (folds) or by the text."""

from __future__ import annotations

import torch
from torch import Tensor

from heritage_align import ops
from heritage_align.plugin import BuildContext, ImageFeatures, TextFeatures, candidate_images, dot
from heritage_align_plugins.similarities.config import LaclipConfig
from heritage_align_plugins.similarities.kept import kept_regions, masked_low, regions_of

_UNIFORM = 1e30
"""Temperature at which the softmax of cosines is 1 / k to the bit: exp(-2 / 1e30) is 1 in fp32."""


class LaclipSimilarity:
    """Image-conditioned: ``<sum_j w_j u_j, u_T>``, ``w_j = <u_I, u_j>`` raw (LACLIP, Yuan et al. 2025, figure) or
    softmaxed and renormalised (WCA, Li et al. 2024); normalised and uniform weights are ours. Text-conditioned:
    ``sum_j softmax_j(s_j / t) s_j`` with ``s_j = <u_j, u_T>``, ours."""

    def __init__(self, config: LaclipConfig, context: BuildContext) -> None:
        self.config = config

    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        """Return ``(n_images, n_texts)``, or ``(n_texts, k)`` for candidates."""
        if images.folded is not None:
            return dot(images.folded, texts.global_features, candidates)
        if self.config.conditioning == "image" or images.keep is not None:
            images, candidates = candidate_images(images, candidates)
        folded = self.fold(images)
        if folded is not None:
            return dot(folded, texts.global_features, candidates)
        return ops.patch_weighted_score(
            texts.global_features,
            kept_regions(images),
            pooling="softmax",
            temperature=self.config.temperature,
            global_features=images.global_features if self.config.global_mix else None,
            global_mix=self.config.global_mix,
            candidates=candidates,
        )

    def fold(self, images: ImageFeatures) -> Tensor | None:
        """Return ``(n_images, dim)``: the sum of weighted regions, mixed with the global vector if so configured."""
        if self.config.conditioning == "text":
            return None
        regions, whole = kept_regions(images), images.global_features
        weights = self.config.weights
        local = ops.fold_patches(
            whole,
            regions,
            temperature={"softmax": self.config.temperature, "uniform": _UNIFORM}.get(weights),
            renormalise=self.config.renormalise,
        )
        if weights == "normalised" and not self.config.renormalise:
            local = local / _total_weight(whole, regions)[:, None]
        mix = self.config.global_mix
        return local if mix == 0 else torch.lerp(local, whole.to(local), mix)

    def respond(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Return ``(1, n_regions)``: the cosine of every region with the whole text."""
        regions = regions_of(images)
        return masked_low(texts.global_features.float() @ regions.dequantised().float().T, images)


def _total_weight(whole: Tensor, regions: ops.Ragged) -> Tensor:
    """Return ``(n_images,)``: ``sum_j |<u_I, u_j>|``, 1 where that is 0 (the folded vector is 0 then too).

    The absolute value keeps the divisor away from 0 where cosines have both signs, as those of patch tokens may.
    """
    rows = regions.dequantised().float()
    image = torch.repeat_interleave(torch.arange(len(regions), device=rows.device), regions.lengths)
    cosines = torch.linalg.vecdot(rows, whole.to(rows)[image])
    total = rows.new_zeros(len(regions)).index_add_(0, image, cosines.abs())
    return torch.where(total > 0, total, 1.0)

"""Late interaction: every fragment of the text takes its best region."""

from __future__ import annotations

from torch import Tensor

from heritage_align import ops
from heritage_align.plugin import BuildContext, ImageFeatures, TextFeatures, candidate_images
from heritage_align_plugins.similarities.config import LateInteractionConfig
from heritage_align_plugins.similarities.fragments import fragments_of
from heritage_align_plugins.similarities.kept import kept_regions, masked_low, regions_of


class LateInteractionSimilarity:
    """``sum_f max_r <s_f, v_r>`` (MaxSim, Khattab and Zaharia 2020), divided by the fragments for the mean."""

    def __init__(self, config: LateInteractionConfig, context: BuildContext) -> None:
        self.config = config

    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        """Return ``(n_images, n_texts)``, or ``(n_texts, k)`` for candidates."""
        fragments = fragments_of(texts)
        if images.keep is not None:
            images, candidates = candidate_images(images, candidates)
        scores = ops.maxsim_score(fragments, kept_regions(images), candidates=candidates)
        if self.config.aggregate == "sum":
            return scores
        counts = fragments.lengths.to(scores).clamp_min(1)
        return scores / (counts if candidates is None else counts[:, None])

    def fold(self, images: ImageFeatures) -> None:
        """Return None: the best region depends on the text."""
        return

    def respond(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Return ``(n_fragments, n_regions)`` cosines."""
        fragments, regions = fragments_of(texts), regions_of(images)
        return masked_low(fragments.values.float() @ regions.dequantised().float().T, images)

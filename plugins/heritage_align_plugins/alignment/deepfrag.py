"""DeepFrag, the baseline without attention (Karpathy et al. 2014 as Laenen et al. 2017 use it)."""

from __future__ import annotations

import torch
from torch import Tensor

from heritage_align.ops import Ragged
from heritage_align.plugin import BuildContext, ImageFeatures, TextFeatures, dot
from heritage_align_plugins.alignment.config import DeepFragConfig
from heritage_align_plugins.similarities.fragments import fragments_of
from heritage_align_plugins.similarities.kept import kept_regions, masked_low, regions_of


class DeepFragSimilarity:
    """``S_kl = sum_ij <v_i, s_j> / (m_k (n_l + smoothing))`` over the regions of image k and fragments of text l.

    The sum of products is the product of sums, so no pair is visited. On unit vectors, where the published score has
    inner products: what an encoder gives is of unit length.
    """

    def __init__(self, config: DeepFragConfig, context: BuildContext) -> None:
        self.config = config

    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        """Return ``(n_images, n_texts)``, or ``(n_texts, k)`` for candidates."""
        fragments = fragments_of(texts)
        words = sums(fragments) / (fragments.lengths.to(fragments.device).unsqueeze(1) + self.config.smoothing)
        scores = dot(_means(kept_regions(images)), words, candidates)
        no_text = (fragments.lengths == 0).to(scores.device)
        no_image = (regions_of(images).lengths == 0).to(scores.device)
        if candidates is None:
            return scores.masked_fill(no_image.unsqueeze(1) | no_text, float("-inf"))
        return scores.masked_fill(no_image[candidates.clamp_min(0)] | no_text.unsqueeze(1), float("-inf"))

    def fold(self, images: ImageFeatures) -> None:
        """Return None: the text's side is a sum of fragments, not the text's global vector."""
        return

    def respond(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Return ``(n_fragments, n_regions)`` cosines, those of masked regions -1."""
        cosines = fragments_of(texts).values.float() @ regions_of(images).dequantised().float().T
        return masked_low(cosines, images)


def sums(ragged: Ragged) -> Tensor:
    """Return the sum of each item's rows, ``(n, dim)`` fp32."""
    lengths = ragged.lengths.to(ragged.device)
    owner = torch.arange(len(ragged), device=ragged.device).repeat_interleave(lengths)
    values = ragged.dequantised().float()
    return values.new_zeros(len(ragged), ragged.dim).index_add(0, owner, values)


def _means(ragged: Ragged) -> Tensor:
    return sums(ragged) / ragged.lengths.to(ragged.device).clamp_min(1).unsqueeze(1)


def deepfrag_loss(
    regions: Ragged, fragments: Ragged, *, latent: bool, smoothing: float = 10.0, margin: float = 40.0,
    beta: float = 0.5,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return DeepFrag's losses of a batch, ``C_frag`` and ``beta C_glob``, to be added.

    ``C_frag = sum_ij max(0, 1 - y_ij <v_i, s_j>)`` over every region and fragment of the batch: y = 1 within a pair
    and -1 elsewhere; `latent` (multiple-instance learning) takes ``y = sign <v_i, s_j>`` within a pair, and a fragment
    that no region answers gets its best region as positive. ``C_glob`` is the hinge over ALL negatives of
    ``S_kl = sum_ij <v_i, s_j> / (m_k (n_l + smoothing))`` in both directions, with a margin of 40 (re-implementations
    of Karpathy et al. 2014; the original's constants were not read).

    Args:
        regions: rows are not normalised, image k belongs to text k.
        fragments: likewise.
        latent: False for the first epochs (10 there), True after.
        smoothing: n.
        margin: of C_glob.
        beta: weight of C_glob.
    """
    v, s = regions.values.float(), fragments.values.float()
    products = v @ s.T
    image = torch.arange(len(regions), device=v.device).repeat_interleave(regions.lengths.to(v.device))
    text = torch.arange(len(fragments), device=v.device).repeat_interleave(fragments.lengths.to(v.device))
    pair = image.unsqueeze(1) == text.unsqueeze(0)
    positive = pair
    if latent:
        within = products.detach().masked_fill(~pair, float("-inf"))
        answered = within > 0
        best = within == within.amax(dim=0, keepdim=True)
        positive = pair & (answered | (best & ~answered.any(dim=0, keepdim=True)))
    signs = torch.where(positive, 1.0, -1.0)
    fragment_loss = (1 - signs * products).relu().sum()
    words = sums(fragments) / (fragments.lengths.to(v.device).unsqueeze(1) + smoothing)
    scores = _means(regions) @ words.T
    own = scores.diagonal()
    off = ~torch.eye(len(scores), dtype=torch.bool, device=v.device)
    rows = (margin + scores - own.unsqueeze(1)).relu()[off].sum()
    columns = (margin + scores - own.unsqueeze(0)).relu()[off].sum()
    return fragment_loss, beta * (rows + columns)

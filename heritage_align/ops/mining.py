"""Training with the hardest negative: mine with the fused kernel, differentiate only what was mined."""

from __future__ import annotations

import torch
from torch import Tensor

from . import checks


def hardest_negative_hinge(scores: Tensor, *, margin: float = 0.2) -> Tensor:
    """Sum over the batch of both hinges with their hardest negative (VSE++, Faghri et al. 2018, eq. 6; SCAN's loss).

    ``sum_k [margin + max_{j != k} S_kj - S_kk]+ + [margin + max_{i != k} S_ik - S_kk]+``. At most three scores a row
    have a gradient, and the backward of the ops computes nothing for the others; so a training step is

        scores = ops.focal_attention_score(images, texts)       # the fused kernel, all pairs
        ops.hardest_negative_hinge(scores).backward()           # the mined pairs alone

    Args:
        scores: ``(batch, batch)`` floating, image i belongs to text i.
        margin: 0 or greater.

    Returns:
        A scalar; 0 for a batch of one, which has no negative.

    Raises:
        ValueError: if ``scores`` is not square.
    """
    checks.tensor("scores", scores, shape=(None, None))
    checks.tensor("scores", scores, shape=(scores.shape[0], scores.shape[0]))
    margin = checks.number("margin", margin)
    positive = scores.diagonal()
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    negatives = scores.masked_fill(own, float("-inf"))
    text_cost = (margin + negatives.amax(dim=1) - positive).relu()
    image_cost = (margin + negatives.amax(dim=0) - positive).relu()
    return text_cost.sum() + image_cost.sum()

"""The softmax loss of a batch's scores; the hinge with hardest negatives is `ops.hardest_negative_hinge`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def score_info_nce(scores: Tensor, temperature: float) -> Tensor:
    """Mean of both directions' cross entropies (van den Oord et al. 2018; Radford et al. 2021).

    Args:
        scores: ``(batch, batch)``, image i belongs to text i.
        temperature: the scores are divided by it.
    """
    logits = scores / temperature
    own = torch.arange(len(scores), device=scores.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2

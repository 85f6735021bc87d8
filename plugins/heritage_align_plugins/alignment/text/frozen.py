"""Vectors of a pretrained text model that stays as it is, projected: BERT in Sheng et al. 2021."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from heritage_align.plugin import Encoder

BATCH = 64  # texts in one forward pass of the pretrained model


class FrozenText(nn.Module):
    """``s = ReLU(W_s s^f + b_s)`` (Sheng et al. 2021, eq. 3); ``s^f`` is computed once a text and kept.

    Args:
        base: the pretrained text encoder.
        dim: width of the common space.
        relu: False leaves the rectifier out, which is not the paper's.
    """

    def __init__(self, base: Encoder, dim: int, relu: bool = True) -> None:
        super().__init__()
        self._base = [base]  # in a list: its weights are no part of what is trained and saved
        self.relu = relu
        self.projection = nn.Linear(base.dim, dim)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        self._known: dict[str, Tensor] = {}

    @property
    def base(self) -> Encoder:
        """The pretrained text encoder."""
        return self._base[0]

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Encode texts; returns ``(n, dim)``."""
        if not texts:
            return self.projection.weight.new_zeros(0, self.projection.out_features)
        fresh = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(fresh), BATCH):
            part = fresh[start : start + BATCH]
            with torch.no_grad():
                self._known.update(zip(part, self.base.encode_texts(part).to(self.projection.weight.device)))
        projected = self.projection(torch.stack([self._known[text] for text in texts]))
        return projected.relu() if self.relu else projected

"""A bag of words: the TF-IDF weighted sum of token vectors. Linear in the bag, so a CCA can start it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from heritage_align_plugins.alignment.text.tokens import Vocabulary


class BagOfWords(nn.Module):
    """``s = sum_t w_t E_t + b`` over known tokens and pairs, ``w`` the TF-IDF weights of unit length.

    Args:
        vocabulary: rows and weights.
        dim: width of the common space.
        dropout: chance that a token is left out of a training bag.
    """

    def __init__(self, vocabulary: Vocabulary, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.dropout = dropout
        self.embedding = nn.EmbeddingBag(len(vocabulary), dim, mode="sum", include_last_offset=True)
        self.bias = nn.Parameter(torch.zeros(dim))
        self._known: dict[str, tuple[list[int], list[float]]] = {}
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Encode texts; returns ``(n, dim)``."""
        for text in texts:
            if text not in self._known:
                self._known[text] = self.vocabulary.weighted(text)
        bags = [self._known[text] for text in texts]
        device = self.bias.device
        rows = torch.tensor([row for bag, _ in bags for row in bag], dtype=torch.int64, device=device)
        weights = torch.tensor([weight for _, bag in bags for weight in bag], device=device)
        offsets = torch.tensor([0, *(len(bag) for bag, _ in bags)], device=device).cumsum(0)
        if self.training and self.dropout:
            weights = nn.functional.dropout(weights, self.dropout)
        pooled: Tensor = self.embedding(rows, offsets, per_sample_weights=weights)
        return pooled + self.bias

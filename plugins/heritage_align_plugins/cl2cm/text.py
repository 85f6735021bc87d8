"""The text model of teacher and student: a small transformer, its tokens and their mean in the common space."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from heritage_align_plugins.cl2cm.settings import TextSettings
from heritage_align_plugins.cl2cm.vocabulary import PADDING


class Encoded(NamedTuple):
    """Texts in the common space.

    Attributes:
        sentences: ``(n, dim)``, unit rows.
        tokens: ``(n, length, dim)``, unit rows; what stands at padding means nothing.
        mask: ``(n, length)`` bool, False at padding.
    """

    sentences: Tensor
    tokens: Tensor
    mask: Tensor


class TextModel(nn.Module):
    """Pre-norm transformer, projection of every token, mean over the tokens of a text.

    The mean ties words to sentences: what is learned between sentences places the words, from which the word-level
    alignment starts.

    Args:
        settings: size.
        vocabulary: number of tokens with padding and the unknown one.
        dim: width of the common space.
    """

    def __init__(self, settings: TextSettings, vocabulary: int, dim: int) -> None:
        super().__init__()
        width = settings.width
        self.words = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        nn.init.normal_(self.words.weight, std=0.1)  # torch's 1 drowns the positions
        self.positions = nn.Parameter(torch.randn(settings.context_length, width) * 0.02)
        block = nn.TransformerEncoderLayer(
            width, settings.heads, 2 * width, settings.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, settings.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, dim)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, numbers: Tensor) -> Encoded:
        """Encode tokens ``(n, length)`` int64, 0 for padding, at least one token a text."""
        mask = numbers != PADDING
        x = self.dropout(self.words(numbers) + self.positions[: numbers.shape[1]])
        tokens = self.projection(self.norm(self.blocks(x, src_key_padding_mask=~mask)))
        mean = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return Encoded(normalize(mean.float(), dim=-1), normalize(tokens.float(), dim=-1), mask)

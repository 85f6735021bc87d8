"""The bidirectional GRU of SCAN and BFAN, from scratch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from heritage_align_plugins.alignment.text.tokens import UNKNOWN, Vocabulary

TOGETHER = 48
"""Texts that go through at once: enough that a step's product outweighs reading its weights, few enough of one length
that little is padded (of 32, 43, 64 and 128 of 128 captions 43 and 64 took least)."""


class BidirectionalGru(nn.Module):
    """Word embedding, bidirectional GRU, mean of the two directions (Lee et al. 2018, eqs 9 to 11).

    A fragment's vector is the mean of its tokens' states, so that a single word is SCAN's word vector.

    Args:
        vocabulary: single tokens are looked up, pairs are not.
        dim: width of the common space and of each direction's state.
        embedding_dim: of the word vectors (SCAN: 300).
        dropout: on word vectors while training.
        unknown: chance that a training token is replaced by the unknown one, which otherwise would never be learned.
    """

    def __init__(
        self, vocabulary: Vocabulary, dim: int, embedding_dim: int = 300, dropout: float = 0.0, unknown: float = 0.0
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.unknown = unknown
        self.embedding = nn.Embedding(vocabulary.singles, embedding_dim)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(embedding_dim, dim, batch_first=True, bidirectional=True)
        self._known: dict[str, tuple[int, ...]] = {}
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)  # as the published code

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Encode texts; returns ``(n, dim)``.

        Texts of about one length go through together, padded at their ends: each direction runs over its own order of
        the tokens, so what is padded comes after all that counts. (A group a length, without padding, reads the
        recurrent weights and adds to their gradient in every step of every group: 2.8 times as long for 128 captions
        of 3 to 24 tokens at the published widths. The backward of packed sequences copies the whole output once a step:
        16 s instead of 1 s for 370 phrases of 1 to 40 characters.)
        """
        sequences = [self._sequence(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: len(sequences[i]))
        parts = []
        for start in range(0, len(order), TOGETHER):
            members = [sequences[i] for i in order[start : start + TOGETHER]]
            parts.append(self._means([torch.tensor(rows) for rows in members]))
        if not parts:
            return self.embedding.weight.new_zeros(0, self.gru.hidden_size)
        return torch.cat(parts)[torch.tensor(order).argsort().to(parts[0].device)]

    def _means(self, sequences: list[Tensor]) -> Tensor:
        """Return the mean of each text's token states ``(n, dim)``."""
        device = self.embedding.weight.device
        rows = pad_sequence(sequences, batch_first=True).to(device)
        lengths = torch.tensor([len(sequence) for sequence in sequences], device=device).unsqueeze(1)
        if self.training and self.unknown:
            rows = rows.masked_fill(torch.rand(rows.shape, device=device) < self.unknown, UNKNOWN)
        places = torch.arange(rows.shape[1], device=device)
        inside = places < lengths
        backwards = torch.where(inside, lengths - 1 - places, places)
        words = self.dropout(self.embedding(rows))
        states = self._direction(words, "")
        states = states + self._direction(words.gather(1, backwards.unsqueeze(2).expand_as(words)), "_reverse")
        means: Tensor = (states * inside.unsqueeze(2)).sum(1) / (2 * lengths)
        return means

    def _direction(self, words: Tensor, suffix: str) -> Tensor:
        """Return the states ``(n, length, dim)`` of one direction, in the order that it reads the words."""
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weights = [getattr(self.gru, name + suffix) for name in names]
        start = words.new_zeros(1, len(words), self.gru.hidden_size)
        states: Tensor = torch.gru(words, start, weights, True, 1, 0.0, self.training, False, True)[0]
        return states

    def _sequence(self, text: str) -> tuple[int, ...]:
        if text not in self._known:
            self._known[text] = tuple(self.vocabulary.sequence(text))
        return self._known[text]

"""Words of a text and their numbers: characters of Chinese and Japanese, lower-case words of the rest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from heritage_align.plugin import TextRead
from heritage_align.text import known_form, plain_characters

PADDING, UNKNOWN = 0, 1
_RESERVED = 2
# Han and kana one by one; runs of other letters and digits as words; every other sign by itself.
_SINGLE = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(rf"[{_SINGLE}]|[^\W_{_SINGLE}]+|\S")


def tokens_of(text: str) -> list[str]:
    """Split a text into tokens; a text that is not blank has at least one."""
    return _TOKEN.findall(plain_characters(text).lower())


class Vocabulary:
    """Tokens with numbers from 2; 0 is padding and 1 stands for every other token.

    Args:
        tokens: distinct, in the order of their numbers.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tuple(tokens)
        self._number = {token: number for number, token in enumerate(self.tokens, start=_RESERVED)}

    @classmethod
    def of(cls, texts: Iterable[str], min_count: int = 1) -> Vocabulary:
        """Collect the tokens that occur in at least `min_count` texts, the most frequent first."""
        counts = Counter(token for text in texts for token in dict.fromkeys(tokens_of(text)))
        kept = [(count, token) for token, count in counts.items() if count >= min_count]
        return cls([token for _, token in sorted(kept, key=lambda pair: (-pair[0], pair[1]))])

    def __len__(self) -> int:
        return len(self.tokens) + _RESERVED

    def encode(self, texts: Sequence[str], context_length: int) -> Tensor:
        """Return ``(n_texts, longest)`` int64, 0 for padding; a longer text is cut at `context_length` tokens.

        Raises:
            ValueError: names the position of a text that is blank or no string.
        """
        for position, text in enumerate(texts):
            if not isinstance(text, str) or not plain_characters(text).strip():
                raise ValueError(f"texts[{position}]: expected a text that is not empty, got {text!r}")
        rows = [self._numbers(text)[:context_length] for text in texts]
        numbers = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=torch.int64)
        for place, row in enumerate(rows):
            numbers[place, : len(row)] = torch.tensor(row)
        return numbers

    def read(self, texts: Sequence[str], context_length: int) -> list[TextRead]:
        """Count the tokens of texts, and those that are read and known."""
        rows = [self._numbers(text) for text in texts]
        return [TextRead(len(row), sum(number != UNKNOWN for number in row[:context_length])) for row in rows]

    def _numbers(self, text: str) -> list[int]:
        return [self._number.get(known_form(token, self._number), UNKNOWN) for token in tokens_of(text)]


def hide(numbers: Tensor, share: float) -> Tensor:
    """Replace tokens by the unknown one, each with probability `share`: what trains it, and a regulariser."""
    if not share:
        return numbers
    hidden = (torch.rand(numbers.shape, device=numbers.device) < share) & (numbers != PADDING)
    return numbers.masked_fill(hidden, UNKNOWN)

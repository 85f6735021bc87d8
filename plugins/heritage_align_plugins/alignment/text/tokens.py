"""Tokens of Chinese and English, and a vocabulary with their inverse document frequencies."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

# One character of a script without spaces, or a run of letters and digits of one with them.
_TOKEN = re.compile(r"[㐀-䶿一-鿿豈-﫿぀-ヿ]|[^\W_㐀-䶿一-鿿豈-﫿぀-ヿ]+(?:['’-][^\W_㐀-䶿一-鿿豈-﫿぀-ヿ]+)*")

UNKNOWN = 0
"""Row of tokens that the vocabulary does not have."""


def tokenise(text: str) -> list[str]:
    """Split into lower-case words; Chinese and Japanese into characters, as they write no spaces.

    >>> tokenise("Blue-white 青花 bowl")
    ['blue-white', '青', '花', 'bowl']
    """
    return [token.lower() for token in _TOKEN.findall(text)]


def n_grams(tokens: Sequence[str]) -> list[str]:
    """Return the tokens and the pairs of neighbours (joined by a space, which no token holds)."""
    return [*tokens, *(" ".join(pair) for pair in pairwise(tokens))]


@dataclass(frozen=True)
class Vocabulary:
    """Tokens and neighbour pairs with their rows and weights.

    Attributes:
        tokens: token -> row from 1; row 0 is `UNKNOWN`. Single tokens come first.
        idf: ``len(tokens) + 1`` inverse document frequencies, that of `UNKNOWN` 0.
        singles: rows below this number are single tokens (`UNKNOWN` among them).
    """

    tokens: Mapping[str, int]
    idf: tuple[float, ...]
    singles: int

    @classmethod
    def of(cls, texts: Sequence[str], min_count: int = 1, min_pairs: int = 2) -> Vocabulary:
        """Count the training texts; ``idf = ln((1 + n) / (1 + df)) + 1``, the smoothed form.

        Args:
            texts: training captions.
            min_count: rarer single tokens are unknown.
            min_pairs: rarer pairs are left out.
        """
        frequency: Counter[str] = Counter()
        for text in texts:
            frequency.update(set(n_grams(tokenise(text))))
        singles = sorted(t for t, n in frequency.items() if " " not in t and n >= min_count)
        pairs = sorted(t for t, n in frequency.items() if " " in t and n >= min_pairs)
        names = [*singles, *pairs]
        idf = [0.0, *(math.log((1 + len(texts)) / (1 + frequency[name])) + 1 for name in names)]
        return cls({name: row for row, name in enumerate(names, start=1)}, tuple(idf), len(singles) + 1)

    def __len__(self) -> int:
        """Return the number of rows, `UNKNOWN` included."""
        return len(self.idf)

    def sequence(self, text: str) -> list[int]:
        """Return the rows of the text's tokens in order; at least one (`UNKNOWN` for a text of signs alone)."""
        return [self.tokens.get(token, UNKNOWN) for token in tokenise(text)] or [UNKNOWN]

    def weighted(self, text: str) -> tuple[list[int], list[float]]:
        """Return rows and TF-IDF weights of the known tokens and pairs: ``(1 + ln tf) idf``, of unit length.

        A text without a known token gives `UNKNOWN` with weight 0.
        """
        counts = Counter(self.tokens[t] for t in n_grams(tokenise(text)) if t in self.tokens)
        if not counts:
            return [UNKNOWN], [0.0]
        rows = sorted(counts)
        weights = [(1 + math.log(counts[row])) * self.idf[row] for row in rows]
        length = math.sqrt(sum(w * w for w in weights))
        return rows, [w / length for w in weights]

    def asdict(self) -> dict[str, Any]:
        """Return a JSON-ready form: tokens in the order of their rows."""
        return {"tokens": list(self.tokens), "idf": list(self.idf), "singles": self.singles}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Vocabulary:
        """Undo `asdict`."""
        tokens = {token: row for row, token in enumerate(document["tokens"], start=1)}
        return cls(tokens, tuple(document["idf"]), int(document["singles"]))

"""Tokens of Chinese and English, and a vocabulary with their inverse document frequencies."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from heritage_align.text import known_form, plain_characters

_UNSPACED = "㐀-䶿一-鿿豈-﫿぀-ヿ"  # characters of scripts without spaces
_SINGLE = re.compile(f"[{_UNSPACED}]")
_RUN = rf"[^\W_{_UNSPACED}]+"
# One such character, or a run of letters and digits of a script with spaces.
_TOKEN = re.compile(rf"[{_UNSPACED}]|{_RUN}(?:['’-]{_RUN})*")

UNKNOWN = 0
"""Row of tokens that the vocabulary does not have."""


def tokenise(text: str) -> list[str]:
    """Split into lower-case words; Chinese and Japanese into characters, as they write no spaces.

    >>> tokenise("Blue-white 青花 bowl")
    ['blue-white', '青', '花', 'bowl']
    """
    return [token.lower() for token in _TOKEN.findall(plain_characters(text))]


PIECE = "#"
"""Begins the name of a piece; no token holds it."""
SHORTEST_PIECE = 3


def pieces_of(token: str, longest: int) -> list[str]:
    """Return the pieces of a word between marks for its ends (Bojanowski et al. 2017), 3 to `longest` characters each.

    >>> pieces_of("vase", 4)
    ['#<va', '#vas', '#ase', '#se>', '#<vas', '#vase', '#ase>']
    """
    if _SINGLE.fullmatch(token):  # a character of a script without spaces has no inside
        return []
    marked = f"<{token}>"
    lengths = range(SHORTEST_PIECE, longest + 1)
    return [PIECE + marked[i : i + n] for n in lengths for i in range(len(marked) - n + 1)]


def n_grams(tokens: Sequence[str], pieces: int = 0) -> list[str]:
    """Return the tokens, the pairs of neighbours (joined by a space, which no token holds) and pieces of words.

    Args:
        tokens: of a text.
        pieces: longest piece, in characters; 0 for none.
    """
    inside = [piece for token in tokens for piece in pieces_of(token, pieces)] if pieces else []
    return [*tokens, *(" ".join(pair) for pair in pairwise(tokens)), *inside]


@dataclass(frozen=True)
class Vocabulary:
    """Tokens, neighbour pairs and pieces of words with their rows and weights.

    Attributes:
        tokens: token -> row from 1; row 0 is `UNKNOWN`. Single tokens come first.
        idf: ``len(tokens) + 1`` inverse document frequencies, that of `UNKNOWN` 0.
        singles: rows below this number are single tokens (`UNKNOWN` among them).
        pieces: longest piece, in characters; 0 without pieces.
    """

    tokens: Mapping[str, int]
    idf: tuple[float, ...]
    singles: int
    pieces: int = 0

    @classmethod
    def of(cls, texts: Sequence[str], min_count: int = 1, min_pairs: int = 2, pieces: int = 0) -> Vocabulary:
        """Count the training texts; ``idf = ln((1 + n) / (1 + df)) + 1``, the smoothed form.

        Args:
            texts: training captions.
            min_count: rarer single tokens are unknown.
            min_pairs: rarer pairs and pieces are left out.
            pieces: longest piece of a word, in characters; 0 for none.
        """
        frequency: Counter[str] = Counter()
        for text in texts:
            frequency.update(set(n_grams(tokenise(text), pieces)))
        singles = sorted(t for t, n in frequency.items() if _is_single(t) and n >= min_count)
        joined = sorted(t for t, n in frequency.items() if not _is_single(t) and n >= min_pairs)
        names = [*singles, *joined]
        idf = [0.0, *(math.log((1 + len(texts)) / (1 + frequency[name])) + 1 for name in names)]
        return cls({name: row for row, name in enumerate(names, start=1)}, tuple(idf), len(singles) + 1, pieces)

    def __len__(self) -> int:
        """Return the number of rows, `UNKNOWN` included."""
        return len(self.idf)

    def sequence(self, text: str) -> list[int]:
        """Return the rows of the text's tokens in order; at least one (`UNKNOWN` for a text of signs alone)."""
        return [self.tokens.get(token, UNKNOWN) for token in self._tokens_of(text)] or [UNKNOWN]

    def weighted(self, text: str) -> tuple[list[int], list[float]]:
        """Return rows and TF-IDF weights of the known tokens, pairs, pieces: ``(1 + ln tf) idf``, of unit length.

        A text without a known token gives `UNKNOWN` with weight 0.
        """
        counts = Counter(self.tokens[t] for t in n_grams(self._tokens_of(text), self.pieces) if t in self.tokens)
        if not counts:
            return [UNKNOWN], [0.0]
        rows = sorted(counts)
        weights = [(1 + math.log(counts[row])) * self.idf[row] for row in rows]
        length = math.sqrt(sum(w * w for w in weights))
        return rows, [w / length for w in weights]

    def _tokens_of(self, text: str) -> list[str]:
        return [known_form(token, self.tokens) for token in tokenise(text)]

    def asdict(self) -> dict[str, Any]:
        """Return a JSON-ready form: tokens in the order of their rows."""
        return {"tokens": list(self.tokens), "idf": list(self.idf), "singles": self.singles, "pieces": self.pieces}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Vocabulary:
        """Undo `asdict`."""
        tokens = {token: row for row, token in enumerate(document["tokens"], start=1)}
        return cls(tokens, tuple(document["idf"]), int(document["singles"]), int(document["pieces"]))


def _is_single(name: str) -> bool:
    return " " not in name and not name.startswith(PIECE)

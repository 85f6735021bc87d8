"""Words of English text with their places, in the manner of the Penn Treebank."""

from __future__ import annotations

import re

# Words hold hyphens, points between letters or digits (76.AH.1, J.P.), and commas between digits (1,500). A possessive
# 's is a token of its own, as taggers learned it; what is left is punctuation, one mark a token.
_TOKEN = re.compile(
    r"(?P<possessive>['’]s(?![\w]))|(?P<word>[^\W_]+(?:(?:[-‐‑./]|['’](?!s\b)|(?<=\d),(?=\d))[^\W_]+)*)|(?P<mark>[^\s\w]|_)"
)
_QUOTES = {"‘": "’", "“": "”", "'": "'", '"': '"', "«": "»"}


def tokenize(text: str) -> list[tuple[int, int]]:
    """Return half-open places of words and punctuation marks.

    Quotation marks are no tokens, and belong to the word that they enclose ("enamels in ‘doucai’ style" is one noun
    phrase); the tagger that Sheng et al. 2021 used ended the phrase at the closing one.
    """
    found = []
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        if match["mark"] and match[0] in "‘’“”'\"«»":
            continue
        if match["word"] and start and text[end : end + 1] and _QUOTES.get(text[start - 1]) == text[end]:
            start, end = start - 1, end + 1
        found.append((start, end))
    return found


def bare(word: str) -> str:
    """Return a token without the quotation marks that enclose it."""
    return word[1:-1] if len(word) > 2 and _QUOTES.get(word[0]) == word[-1] else word

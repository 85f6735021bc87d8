"""What a tagger returns."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from heritage_align.text import Grammar


class Token(NamedTuple):
    """A word of a text.

    Attributes:
        start: of its letters in the text.
        end: one past its last letter.
        tag: a letter of `heritage_align.text.tags`.
        content: whether it says something by itself, that is, is no stop word and no punctuation.
    """

    start: int
    end: int
    tag: str
    content: bool


class Tagger(Protocol):
    """Finds the words of a text and their parts of speech."""

    grammar: Grammar  # of the noun phrases of its language

    def tag(self, text: str) -> list[Token]:
        """Return the words in their order; they do not overlap, and blanks are in none."""

"""Noun phrases by a finite automaton over part-of-speech tags, every span of them, overlapping ones too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Grammar:
    """A deterministic finite automaton over the letters of `heritage_align.text.tags`.

    Attributes:
        moves: state -> letter -> next state; state 0 is the start, a missing letter ends the phrase.
        accepting: states in which what was read is a noun phrase.
    """

    moves: Mapping[int, Mapping[str, int]]
    accepting: frozenset[int]


_MODIFIED, _NOUN, _LINKED = 1, 2, 3

ENGLISH = Grammar(
    {
        0: {"A": _MODIFIED, "N": _NOUN},
        _MODIFIED: {"A": _MODIFIED, "N": _NOUN},
        _NOUN: {"A": _MODIFIED, "N": _NOUN, "P": _LINKED},
        _LINKED: {"D": _LINKED, "A": _MODIFIED, "N": _NOUN},
    },
    frozenset({_NOUN}),
)
"""``(A|N)*N(PD*(A|N)*N)*``, the SimpleNP of NPFST (Handler et al. 2016): "straight-sided bowl with underglaze blue"."""

_MEASURED = 4

CHINESE = Grammar(
    {
        0: {"A": _MODIFIED, "N": _NOUN},
        _MODIFIED: {"A": _MODIFIED, "N": _NOUN, "L": _LINKED, "Q": _MEASURED},
        _MEASURED: {"A": _MODIFIED, "N": _NOUN, "L": _LINKED},
        _NOUN: {"A": _MODIFIED, "N": _NOUN, "L": _LINKED},
        _LINKED: {"A": _MODIFIED, "N": _NOUN},
    },
    frozenset({_NOUN}),
)
"""``((AQ?|N)+L)*(AQ?|N)*N``, ours: an attribute stands before its noun, with 的 or without.

美丽的凤凰 (A L N), 龙的爪子 (N L N), 一只红色的龙 (A N L N), 三朵大牡丹 (A Q A N). Where English has a preposition
after the noun, Chinese has 的 before it, so 的 takes the place of ``P``, and may follow an adjective too. A measure
word opens no phrase: 朵牡丹 is none.
"""


def noun_phrase_spans(
    tags: Sequence[str], min_length: int = 1, max_length: int = 8, grammar: Grammar = ENGLISH
) -> list[tuple[int, int]]:
    """Return every span of tokens that is a noun phrase, by its start and then its length.

    Args:
        tags: one letter a token (`coarse_tags`).
        min_length: tokens of the shortest phrase; NPFST's own phrases have at least 2.
        max_length: tokens of the longest phrase.
        grammar: `ENGLISH` or `CHINESE`.

    Returns:
        Half-open spans ``(start, end)``. Time is ``O(n_tokens * max_length)``.

    Raises:
        ValueError: `min_length` is below 1 or above `max_length`.
    """
    if not 1 <= min_length <= max_length:
        raise ValueError(f"expected 1 <= min_length <= max_length, got {min_length}, {max_length}")
    spans = []
    for start in range(len(tags)):
        state = 0
        for end in range(start + 1, min(start + max_length, len(tags)) + 1):
            following = grammar.moves[state].get(tags[end - 1])
            if following is None:
                break
            state = following
            if state in grammar.accepting and end - start >= min_length:
                spans.append((start, end))
    return spans

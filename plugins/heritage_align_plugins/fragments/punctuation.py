"""Fragments by rule, for Chinese and English, without a tagger."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from heritage_align.plugin import BuildContext, TextItem
from heritage_align_plugins.fragments.config import PunctuationConfig
from heritage_align_plugins.fragments.tagging.rules import share_a_noun
from heritage_align_plugins.fragments.words import (
    ABBREVIATIONS,
    BRACKETS,
    CHINESE_CONNECTIVES,
    CHINESE_WORDS,
    ENGLISH_CONNECTIVES,
    MARKS,
    QUOTES,
)

# A comma or a colon between digits belongs to a number (1,500; 4:3). A full stop ends a fragment only before
# a blank or the end (3.5 cm, 76.AH.1), unless it ends an abbreviation, which `_cut` looks up. A hyphen or an
# en dash separates only between blanks (silk-and-gold, 1640–1650).
_PUNCTUATION = rf"[{re.escape(MARKS + BRACKETS)}]|[,:](?!(?<=\d.)\d)|(?P<stop>\.)(?=\s|$)|—+|\s[-–]\s"
_CHINESE = "|".join(CHINESE_CONNECTIVES)
_ENGLISH = "|".join(word.replace(" ", r"\s+") for word in ENGLISH_CONNECTIVES)
_KEPT = "|".join(CHINESE_WORDS)
_AT_PUNCTUATION = re.compile(_PUNCTUATION)
# Words that contain a connective are tried first, and stepped over.
_AT_CONNECTIVES = re.compile(
    rf"(?P<kept>{_KEPT})|{_PUNCTUATION}|{_CHINESE}|(?<![\w'’-])(?:(?P<pair>and|or|&)|{_ENGLISH})(?![\w'’-])",
    re.IGNORECASE,
)
_WORD = r"[^\W\d_][\w'’-]*"
_LONGEST_PAIR = 80
"""Characters before a conjunction that are looked at for two words."""
_LONGEST_WORD = max(map(len, ABBREVIATIONS)) + 1
"""Characters before a full stop that are looked at: of a longer word enough to see that it is no abbreviation."""
_BEFORE_A_PAIR = re.compile(rf"(?:({_WORD})\s+)?({_WORD})\s*$")
_AFTER_A_PAIR = re.compile(rf"\s*({_WORD})\s+({_WORD})")
_OPENING = dict(zip(BRACKETS[1::2], BRACKETS[::2]))
_A_BRACKET = re.compile(f"[{re.escape(BRACKETS)}]")
# The look behind keeps the search to the first character of a run: without it a long run is tried from each of its
# characters, in the square of its length.
_EDGE = r"[\s·–—~*#-]"
_EDGES = re.compile(rf"^{_EDGE}+|(?<!{_EDGE}){_EDGE}+$")
_LAST_WORD = re.compile(r"[^\W\d_]+$")


class PunctuationFragmenter:
    """Cuts at punctuation, brackets and connectives, so that a fragment names about one thing.

    Adjectives of one noun stay together (a blue and white vase). Numerals and measure words stay with their noun
    (一朵牡丹和两只凤凰 -> 一朵牡丹, 两只凤凰), and so do attributes (a gilt bronze figure of Guanyin). The rules are
    ours: Sheng et al. 2021 use noun phrases of a part-of-speech grammar, for which Chinese and English need a tagger
    each.
    """

    def __init__(self, config: PunctuationConfig, context: BuildContext) -> None:
        """Choose the pattern."""
        self.config = config
        self._pattern = _AT_CONNECTIVES if config.connectives else _AT_PUNCTUATION

    def split(self, item: TextItem) -> tuple[str, ...]:
        """Return fragments in the order of the text; a text of punctuation only is its own fragment, a blank
        text has none."""
        text = _without_brackets(item.text) if self.config.brackets == "drop" else item.text
        found = tuple(piece for piece in map(_trim, _cut(text, self._pattern)) if any(c.isalnum() for c in piece))
        if not found:
            whole = item.text.strip()
            return (whole,) if whole else ()
        return distinct(found) if self.config.unique else found


def distinct(fragments: Iterable[str]) -> tuple[str, ...]:
    """Return the fragments without repetitions, in the order of their first appearance."""
    return tuple(dict.fromkeys(fragments))


def _without_brackets(text: str) -> str:
    """Take out every bracket that is closed, with what is in it; a cut remains."""
    kept: list[str] = []  # text and brackets, in turn
    opened: dict[str, list[int]] = {bracket: [] for bracket in _OPENING.values()}  # where in `kept`, the last one last
    start = 0
    for match in _A_BRACKET.finditer(text):
        bracket = match[0]
        kept.append(text[start : match.start()])
        start = match.end()
        if bracket in opened:
            opened[bracket].append(len(kept))
        elif opened[_OPENING[bracket]]:
            begin = opened[_OPENING[bracket]].pop()
            del kept[begin:]
            for places in opened.values():  # of another kind, opened within
                while places and places[-1] > begin:
                    places.pop()
            bracket = "；"
        kept.append(bracket)
    return "".join([*kept, text[start:]])


def _cut(text: str, pattern: re.Pattern[str]) -> Iterator[str]:
    start = 0
    for match in pattern.finditer(text):
        groups = match.groupdict()
        if groups.get("kept") or (groups.get("pair") and _joins_adjectives(text, start, *match.span())):
            continue
        if groups["stop"] and _abbreviated(text, start, match.start()):
            continue
        yield text[start : match.start()]
        start = match.end()
    yield text[start:]


def _joins_adjectives(text: str, fragment: int, start: int, end: int) -> bool:
    left = _BEFORE_A_PAIR.search(text, max(fragment, start - _LONGEST_PAIR), start)
    right = _AFTER_A_PAIR.match(text, end)
    return left is not None and right is not None and share_a_noun(left[1] or "", left[2], right[1], right[2])


def _abbreviated(text: str, fragment: int, end: int) -> bool:
    word = _LAST_WORD.search(text[max(fragment, end - _LONGEST_WORD) : end])
    return word is not None and (len(word[0]) == 1 or word[0].lower() in ABBREVIATIONS)


def _trim(piece: str) -> str:
    """Take off blanks, dashes and a pair of quotation marks around the whole."""
    piece = _EDGES.sub("", piece)
    for pair in QUOTES:
        inner = piece[1:-1]
        if piece[:1] == pair[0] and piece[-1:] == pair[1] and pair[0] not in inner and pair[1] not in inner:
            return _EDGES.sub("", inner)
    return piece

"""A rough English tagger of word lists and endings: nothing to install, nothing to download."""

from __future__ import annotations

import re

from heritage_align.text import ENGLISH
from heritage_align_plugins.fragments.tagging import english_words as words
from heritage_align_plugins.fragments.tagging.english_tokens import bare, tokenize
from heritage_align_plugins.fragments.tagging.token import Token

_NUMBER = re.compile(r"\d[\d.,]*(?:st|nd|rd|th|s)?")

# Letters that the context decides. Colour: an adjective before a noun, else a noun. Participle: an adjective before
# a noun, else a verb. Finite: a noun after a determiner or an adjective, else a verb. Guess: an adjective by its
# ending, a noun where it must be one.
_COLOUR, _PARTICIPLE, _FINITE, _GUESS = "c", "p", "v", "g"
_ADJECTIVES = frozenset({"A", _COLOUR, _PARTICIPLE, _GUESS})
_BEFORE_A_NOUN = _ADJECTIVES | {"N"}


class RuleTagger:
    """Nouns, adjectives, determiners and prepositions of English captions; all that is unknown is a noun.

    The rules are ours and rough: captions are chains of nouns, adjectives and prepositions, and there a list of the
    closed classes goes far. Running prose with its many verbs wants a trained tagger.
    """

    grammar = ENGLISH

    def tag(self, text: str) -> list[Token]:
        """Return words and punctuation marks."""
        places = tokenize(text)
        names = [bare(text[start:end]).lower() for start, end in places]
        tags = _settle([_class(name) for name in names])
        return [Token(*place, tag, is_content(name)) for place, name, tag in zip(places, names, tags)]


def is_content(word: str) -> bool:
    """Return whether a lower-case English token is a word and no stop word."""
    return word[:1].isalnum() and word not in words.STOP_WORDS


def share_a_noun(earlier: str, left: str, right: str, after: str) -> bool:
    """Return whether `left` and `right`, joined by "and" or "or", are adjectives of the one noun that follows.

    A number begins a thing of its own ("two red and three white cranes"), and a participle behind a noun ends one
    ("a crane flying and white clouds").

    Args:
        earlier: the word before `left`, in any case, or empty.
        left: before the conjunction.
        right: after the conjunction.
        after: the word that follows `right`.
    """
    before, *pair, following = (_class(word.lower()) if word else "P" for word in (earlier, left, right, after))
    if any(word.lower() in words.NUMBERS for word in (left, right)) or (pair[0] == _PARTICIPLE and before == "N"):
        return False
    return set(pair) <= _ADJECTIVES and following in _BEFORE_A_NOUN


def _class(word: str) -> str:
    """Return a letter for a lower-case word by itself."""
    if not word[0].isalnum():
        return "O"
    if word in words.DETERMINERS:
        return "D"
    if word in words.PREPOSITIONS:
        return "P"
    if word in words.FUNCTION_WORDS:
        return "O"
    if word in words.VERBS:
        return _FINITE
    if word in words.ADJECTIVES or word in words.NUMBERS or _NUMBER.fullmatch(word):
        return "A"
    if word in words.COLOURS:
        return _COLOUR
    return _by_ending(word)


def _by_ending(word: str) -> str:
    last = re.split("[-‐‑]", word)[-1]
    if last != word and (last in words.COLOURS or last in words.ADJECTIVES or last == "shaped"):
        return "A"
    if last in words.TRANSITIVE:
        return "O"
    if len(last) > 4 and last.endswith("ing") and last not in words.NOUNS_IN_ING:
        return _PARTICIPLE
    if len(last) > 3 and last.endswith("ed") and last not in words.NOUNS_IN_ED:
        return _PARTICIPLE
    if len(last) > 3 and last.endswith("ly") and last not in words.NOT_ADVERBS:
        return "O"
    if len(last) > 4 and last.endswith(words.ADJECTIVE_ENDINGS) and last not in words.NOT_ADJECTIVES:
        return _GUESS
    return "N"


def _settle(classes: list[str]) -> list[str]:
    """Decide the words that depend on their neighbours, from the last to the first."""
    tags = list(classes)
    for i in reversed(range(len(tags))):
        before = classes[i - 1] if i else "P"
        noun_follows = i + 1 < len(tags) and tags[i + 1] in _BEFORE_A_NOUN
        if tags[i] == _COLOUR:
            tags[i] = "A" if noun_follows else "N"
        elif tags[i] == _PARTICIPLE:
            tags[i] = "A" if noun_follows else "O"
        elif tags[i] == _FINITE:
            tags[i] = "N" if before in ("D", "A", _COLOUR, _GUESS) else "O"
        elif tags[i] == _GUESS:
            # "figure of Guardian" has no other noun; "is Persian" has no place for one.
            tags[i] = "A" if noun_follows or before in ("O", _FINITE) else "N"
    return tags

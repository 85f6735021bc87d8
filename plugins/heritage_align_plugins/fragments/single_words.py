"""Words as fragments: the two variants that Sheng et al. 2021 compare noun phrases with (table 6)."""

from __future__ import annotations

from heritage_align.plugin import BuildContext, TextItem
from heritage_align.text import has_han
from heritage_align_plugins.fragments.config import NounsConfig, TokensConfig
from heritage_align_plugins.fragments.punctuation import distinct
from heritage_align_plugins.fragments.tagging.languages import Taggers


class TokenFragmenter:
    """The words of a text in order, "an ordered sequence of tokens without stop words".

    Chinese is cut into jieba's words, or into its characters, for which nothing has to be installed; words of another
    script then stay whole.

    Raises:
        MissingDependency: at the first Chinese text, jieba is not installed.
    """

    def __init__(self, config: TokensConfig, context: BuildContext) -> None:
        """Keep the settings."""
        self.config = config
        self._taggers = Taggers("rules", "", config.dictionary)

    def split(self, item: TextItem) -> tuple[str, ...]:
        """Return words; the whole text where all are stop words, and none only for a blank text."""
        if self.config.chinese == "characters" and has_han(item.text):
            found = _characters(item.text)
        else:
            tokens = self._taggers.of(item).tag(item.text)
            keep_all = self.config.stop_words == "keep"
            words = [(item.text[t.start : t.end], t.content) for t in tokens]
            found = tuple(word for word, content in words if content or (keep_all and any(c.isalnum() for c in word)))
        return _fragments(found, item, self.config.unique)


class NounFragmenter:
    """The nouns of a text in order, "an ordered sequence of noun tokens".

    Raises:
        MissingDependency: the English tagger is not installed; or, at the first Chinese text, jieba is not.
    """

    def __init__(self, config: NounsConfig, context: BuildContext) -> None:
        """Load the English tagger."""
        self.config = config
        self._taggers = Taggers(config.english, config.model, config.dictionary)

    def split(self, item: TextItem) -> tuple[str, ...]:
        """Return nouns; the whole text where there are none, and none only for a blank text."""
        tokens = self._taggers.of(item).tag(item.text)
        nouns = tuple(item.text[t.start : t.end] for t in tokens if t.tag == "N")
        return _fragments(nouns, item, self.config.unique)


def _characters(text: str) -> tuple[str, ...]:
    found, word = [], ""
    for character in f"{text} ":
        if character.isalnum() and not has_han(character):
            word += character
            continue
        found += [word, character if has_han(character) else ""]
        word = ""
    return tuple(piece for piece in found if piece)


def _fragments(found: tuple[str, ...], item: TextItem, unique: bool) -> tuple[str, ...]:
    if not found:
        whole = " ".join(item.text.split())
        return (whole,) if whole else ()
    return distinct(found) if unique else found

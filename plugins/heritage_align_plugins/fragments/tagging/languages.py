"""Which tagger a text goes to."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

from heritage_align.plugin import TextItem
from heritage_align.text import has_han
from heritage_align_plugins.fragments.tagging.chinese import JiebaTagger
from heritage_align_plugins.fragments.tagging.penn import NltkTagger, SpacyTagger
from heritage_align_plugins.fragments.tagging.rules import RuleTagger
from heritage_align_plugins.fragments.tagging.token import Tagger

English = Literal["rules", "nltk", "spacy"]


class Taggers:
    """The tagger of each language; jieba is loaded for the first Chinese text, and not without one.

    Args:
        english: which tagger.
        model: of spaCy.
        dictionary: more Chinese words, see `JiebaTagger`.
    """

    def __init__(self, english: English, model: str, dictionary: Path | None) -> None:
        self._dictionary = dictionary
        self._english: Tagger
        if english == "nltk":
            self._english = NltkTagger()
        elif english == "spacy":
            self._english = SpacyTagger(model)
        else:
            self._english = RuleTagger()

    @cached_property
    def _chinese(self) -> Tagger:
        return JiebaTagger(self._dictionary)

    def of(self, item: TextItem) -> Tagger:
        """Return the tagger of a text's language; where it is not known, a Chinese character makes it Chinese."""
        chinese = item.language == "zh" if item.language in ("zh", "en") else has_han(item.text)
        return self._chinese if chinese else self._english

"""Fragments as the data set gives them."""

from __future__ import annotations

from heritage_align.plugin import BuildContext, TextItem
from heritage_align.text import is_blank
from heritage_align_plugins.fragments.config import AnnotatedConfig
from heritage_align_plugins.fragments.punctuation import PunctuationFragmenter, distinct


class AnnotatedFragmenter:
    """Returns the phrases of a text; splits at punctuation where it has none, so that queries work too."""

    def __init__(self, config: AnnotatedConfig, context: BuildContext) -> None:
        """Build the splitter for texts without phrases."""
        self.config = config
        self._otherwise = PunctuationFragmenter(config, context)

    def split(self, item: TextItem) -> tuple[str, ...]:
        """Return the phrases that are not blank, in order; none only for a blank text without phrases."""
        phrases = tuple(phrase.strip() for phrase in item.phrases if not is_blank(phrase))
        if not phrases:
            return self._otherwise.split(item)
        return distinct(phrases) if self.config.unique else phrases

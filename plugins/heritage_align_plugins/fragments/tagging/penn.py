"""English taggers that were trained on the Penn Treebank's tags: NLTK's and spaCy's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from heritage_align.plugin import ConfigError, MissingDependency
from heritage_align.text import ENGLISH, PENN, UNIVERSAL, coarse_tags
from heritage_align_plugins.fragments.tagging.english_tokens import bare, tokenize
from heritage_align_plugins.fragments.tagging.rules import is_content
from heritage_align_plugins.fragments.tagging.token import Token

INSTALL = "pip install 'heritage-align[english]'"
_SENTENCE_END = re.compile(r"[.!?]$")


class NltkTagger:
    """NLTK's averaged perceptron, the tagger of NPFST's own Python code.

    Raises:
        MissingDependency: NLTK or the data of its tagger is not installed.
    """

    grammar = ENGLISH

    def __init__(self) -> None:
        try:
            from nltk.tag.perceptron import PerceptronTagger
        except ImportError as error:
            raise MissingDependency(f"english: nltk is not installed ({error}): {INSTALL}") from error
        try:
            self._tagger = PerceptronTagger(lang="eng")
        except LookupError as error:
            raise MissingDependency(
                "english: nltk lacks the data of its tagger: python -m nltk.downloader averaged_perceptron_tagger_eng"
            ) from error

    def tag(self, text: str) -> list[Token]:
        """Return words and punctuation marks; each sentence is tagged by itself."""
        found: list[Token] = []
        places = tokenize(text)
        names = [bare(text[start:end]) for start, end in places]
        begin = 0
        for i, name in enumerate(names):
            if _SENTENCE_END.search(name) or i + 1 == len(names):
                tags = [tag for _, tag in self._tagger.tag(names[begin : i + 1])]
                rows = zip(places[begin:], names[begin:], coarse_tags(tags, PENN))
                found += [Token(*place, letter, is_content(word.lower())) for place, word, letter in rows]
                begin = i + 1
        return found


class SpacyTagger:
    """A pipeline of spaCy with a tagger (Penn tags) or a morphologizer (universal tags).

    Args:
        model: name of an installed model, or its folder.

    Raises:
        MissingDependency: spaCy or the model is not installed.
        ConfigError: the model cannot be loaded, or has no tagger.
    """

    grammar = ENGLISH

    def __init__(self, model: str) -> None:
        try:
            import spacy
        except ImportError as error:
            raise MissingDependency(f"english: spacy is not installed ({error}): {INSTALL}") from error
        if not Path(model).exists() and not spacy.util.is_package(model):
            raise MissingDependency(
                f"english: spacy has no model {model!r}, and there is no such folder: python -m spacy download {model}"
            )
        try:
            self._pipeline: Any = spacy.load(model, exclude=["ner", "lemmatizer"])
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ConfigError([f"model: spacy cannot load {model!r}: {error}"], "fragmenter") from error
        if not {"tagger", "morphologizer"} & set(self._pipeline.pipe_names):
            raise ConfigError([f"model: {model!r} has no tagger; its parts: {self._pipeline.pipe_names}"], "fragmenter")

    def tag(self, text: str) -> list[Token]:
        """Return words and punctuation marks as spaCy cuts them."""
        words = [word for word in self._pipeline(text) if not word.is_space]
        if any(word.tag_ for word in words):
            letters = coarse_tags([word.tag_ for word in words], PENN)
        else:
            letters = coarse_tags([word.pos_ for word in words], UNIVERSAL)
        return [
            Token(word.idx, word.idx + len(word), letter, is_content(word.lower_))
            for word, letter in zip(words, letters)
        ]

"""Settings of the fragmenters."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from heritage_align.plugin import ComponentConfig, Facts


class PunctuationConfig(ComponentConfig):
    """Where a text is cut."""

    connectives: bool = Field(
        True, description="Cut at 和, 与, 及, 以及, and, with, ... too, not at punctuation alone."
    )
    brackets: Literal["split", "drop"] = Field(
        "split",
        description="A remark in brackets becomes fragments of its own (split) or is left out (drop).",
    )
    unique: bool = Field(True, description="Keep only the first of equal fragments of one text.")


class AnnotatedConfig(PunctuationConfig):
    """The settings below are for texts without annotated phrases; `unique` is for both."""


class _ChineseConfig(ComponentConfig):
    dictionary: Path | None = Field(
        None, description="More Chinese words: UTF-8, one a line, its ICTCLAS tag after a blank where it is no noun."
    )
    unique: bool = Field(True, description="Keep only the first of equal fragments of one text.")

    def facts(self) -> Facts:
        """Return the dictionary, which must exist."""
        return Facts(files={"dictionary": self.dictionary} if self.dictionary is not None else {})


class TokensConfig(_ChineseConfig):
    """Which words are kept."""

    stop_words: Literal["drop", "keep"] = Field("drop", description="Articles, prepositions, particles and the like.")
    chinese: Literal["words", "characters"] = Field(
        "words", description="jieba's words, or single characters (which need no jieba and drop no stop words)."
    )


class NounsConfig(_ChineseConfig):
    """Which tagger tells the nouns."""

    english: Literal["rules", "nltk", "spacy"] = Field(
        "rules", description="Tagger of English: word lists (rough, nothing to install), NLTK's or spaCy's."
    )
    model: str = Field("en_core_web_sm", description="spaCy's model, installed or a folder; for `english: spacy`.")


class NounPhrasesConfig(NounsConfig):
    """Which spans of words are fragments."""

    min_length: int = Field(2, ge=1, description="Words of the shortest phrase (published: 2).")
    max_length: int = Field(8, ge=1, description="Words of the longest phrase (published: 8).")
    spans: Literal["all", "maximal"] = Field(
        "all", description="All noun phrases, overlapping ones too (published), or those that no longer one holds."
    )
    lone_nouns: bool = Field(
        True,
        description="Keep nouns that are in no phrase, as fragments of one word; if not (published), only a text "
        "without phrases gives its nouns.",
    )
    clusters: Literal["none", "longest", "mean"] = Field(
        "none",
        description="Phrases of one text that are alike by a string kernel: left alone, only the longest kept, or "
        "one vector for all, their mean.",
    )
    threshold: float = Field(0.5, ge=0.0, le=1.0, description="Normalised kernel from which two phrases are alike.")
    order: int | None = Field(
        None, ge=1, description="Letters of the kernel's subsequences; null takes 2 for Chinese, 3 else."
    )
    decay: float = Field(0.5, gt=0.0, le=1.0, description="Weight of a gap in the kernel.")

    @model_validator(mode="after")
    def _lengths_fit(self) -> NounPhrasesConfig:
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")
        return self

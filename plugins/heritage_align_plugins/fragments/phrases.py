"""Noun phrases of a part-of-speech grammar as fragments."""

from __future__ import annotations

from collections.abc import Sequence

from heritage_align.plugin import BuildContext, TextItem
from heritage_align.text import cluster_phrases, longest, noun_phrase_spans
from heritage_align_plugins.fragments.config import NounPhrasesConfig
from heritage_align_plugins.fragments.punctuation import distinct
from heritage_align_plugins.fragments.tagging.languages import Taggers


class NounPhraseFragmenter:
    """Every noun phrase of a text, overlapping ones too (Sheng et al. 2021, section 4.2; NPFST, Handler et al. 2016).

    A text without a noun phrase gives its nouns, one without nouns gives itself, so that every text has fragments.
    Nouns that stand alone are kept beside phrases too unless `lone_nouns` is off, as it is in the paper: a Chinese word
    may be a phrase (黄地, yellow ground), and what a list names in one word (peonies, cranes) is in the picture too.

    Raises:
        MissingDependency: the English tagger is not installed; or, at the first Chinese text, jieba is not.
    """

    def __init__(self, config: NounPhrasesConfig, context: BuildContext) -> None:
        """Load the English tagger."""
        self.config = config
        self._taggers = Taggers(config.english, config.model, config.dictionary)

    def split(self, item: TextItem) -> tuple[str, ...]:
        """Return phrases by their start and then their length; none only for a blank text."""
        config = self.config
        tagger = self._taggers.of(item)
        tokens = tagger.tag(item.text)
        spans = noun_phrase_spans([t.tag for t in tokens], config.min_length, config.max_length, tagger.grammar)
        if config.spans == "maximal":
            spans = _maximal(spans)
        if config.lone_nouns or not spans:
            covered = {place for start, end in spans for place in range(start, end)}
            nouns = [place for place, token in enumerate(tokens) if token.tag == "N" and place not in covered]
            spans = sorted([*spans, *((place, place + 1) for place in nouns)])
        places = [(tokens[start].start, tokens[end - 1].end) for start, end in spans]
        phrases = tuple(" ".join(item.text[start:end].split()) for start, end in places)
        if not phrases:
            whole = " ".join(item.text.split())
            return (whole,) if whole else ()
        if config.unique:
            phrases = distinct(phrases)
        if config.clusters == "longest":
            phrases = tuple(phrases[longest(phrases, group)] for group in self._cluster(phrases))
        return phrases

    def groups(self, phrases: Sequence[str]) -> list[tuple[int, ...]]:
        """Return which fragments of one text share one vector, the mean of their own.

        Args:
            phrases: what `split` returned.

        Returns:
            Places in `phrases`, every one in exactly one group; a group each unless `clusters` is ``mean``.
        """
        if self.config.clusters != "mean":
            return [(place,) for place in range(len(phrases))]
        return [tuple(group) for group in self._cluster(phrases)]

    def _cluster(self, phrases: Sequence[str]) -> list[list[int]]:
        return cluster_phrases(phrases, self.config.threshold, self.config.order, self.config.decay)


def _maximal(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans that no other holds; `spans` come by their start and then their length."""
    kept: list[tuple[int, int]] = []
    reached = 0
    for i, (start, end) in enumerate(spans):
        longest_here = i + 1 == len(spans) or spans[i + 1][0] != start
        if longest_here and end > reached:
            kept.append((start, end))
            reached = end
    return kept

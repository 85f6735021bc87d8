"""Words and phrases, without a model: the noun-phrase grammar, string kernels, clusters of phrases.

>>> from heritage_align.text import coarse_tags, noun_phrase_spans
>>> words = ["a", "blue", "dragon", "above", "white", "waves"]
>>> tags = coarse_tags(["DT", "JJ", "NN", "IN", "JJ", "NNS"])
>>> [" ".join(words[start:end]) for start, end in noun_phrase_spans(tags, min_length=2)]
['blue dragon', 'blue dragon above white waves', 'dragon above white waves', 'white waves']
"""

from heritage_align.text.characters import (
    CharacterForm,
    character_reader,
    is_blank,
    is_unicode,
    known_form,
    plain_characters,
    prefers_simplified,
    to_simplified,
)
from heritage_align.text.clusters import cluster_phrases, longest
from heritage_align.text.noun_phrases import CHINESE, ENGLISH, Grammar, noun_phrase_spans
from heritage_align.text.scripts import HAN, has_han
from heritage_align.text.string_kernel import phrase_similarity, subsequence_kernel
from heritage_align.text.tags import ICTCLAS, PENN, UNIVERSAL, TagSet, coarse_tags

__all__ = [
    "CHINESE",
    "ENGLISH",
    "HAN",
    "ICTCLAS",
    "PENN",
    "UNIVERSAL",
    "CharacterForm",
    "Grammar",
    "TagSet",
    "character_reader",
    "cluster_phrases",
    "coarse_tags",
    "has_han",
    "is_blank",
    "is_unicode",
    "known_form",
    "longest",
    "noun_phrase_spans",
    "phrase_similarity",
    "plain_characters",
    "prefers_simplified",
    "subsequence_kernel",
    "to_simplified",
]

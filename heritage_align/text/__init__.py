"""Words and phrases, without a model: the noun-phrase grammar, string kernels, clusters of phrases."""

from heritage_align.text.clusters import cluster_phrases, longest
from heritage_align.text.noun_phrases import CHINESE, ENGLISH, Grammar, noun_phrase_spans
from heritage_align.text.string_kernel import phrase_similarity, subsequence_kernel
from heritage_align.text.tags import ICTCLAS, PENN, UNIVERSAL, TagSet, coarse_tags

__all__ = [
    "CHINESE",
    "ENGLISH",
    "ICTCLAS",
    "PENN",
    "UNIVERSAL",
    "Grammar",
    "TagSet",
    "cluster_phrases",
    "coarse_tags",
    "longest",
    "noun_phrase_spans",
    "phrase_similarity",
    "subsequence_kernel",
]

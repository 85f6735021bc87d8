"""From the tags of part-of-speech taggers to the few letters that a noun-phrase grammar reads.

``A`` adjective or number, ``D`` determiner, ``N`` noun, ``P`` preposition; for Chinese besides ``L``, the particle 的
that links an attribute to its noun, and ``Q``, a measure word; ``O`` for all else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

TagSet = Mapping[str, str]
"""Tag of a tagger -> letter; tags that are absent are ``O``."""

OTHER = "O"


def _tag_set(**members: str) -> TagSet:
    return {tag: letter for letter, tags in members.items() for tag in (letter, *tags.split())}


PENN: TagSet = _tag_set(A="JJ JJR JJS CD", D="DT", N="NN NNS NNP NNPS FW", P="IN TO")
"""Penn Treebank, with the classes of NPFST (Handler et al. 2016): numbers count as adjectives."""

UNIVERSAL: TagSet = _tag_set(A="ADJ NUM", D="DET", N="NOUN PROPN", P="ADP")
"""Universal Dependencies, with the same classes."""

ICTCLAS: TagSet = _tag_set(
    A="a ad ag b m mg mq z",
    L="uj ude1",
    N="an eng g i j l n ng nr nrfg nrt ns nt nz s t tg vn",
    Q="q",
)
"""The tags of ICTCLAS as jieba gives them. The classes are ours: NPFST knows English alone.

Set phrases (``i``, ``l``), abbreviations (``j``) and lone morphemes (``g``) name things in catalogues, hence ``N``;
so do times and places (``t``, ``s``: 清代 in 清代瓷瓶). Prepositions and pronouns have no letter: a Chinese
prepositional phrase stands before its noun and is joined to it by 的.
"""


def coarse_tags(tags: Sequence[str], tag_set: TagSet = PENN) -> str:
    """Return one letter a tag, for example ``"ANPDN"`` for ``["JJ", "NN", "IN", "DT", "NN"]``."""
    return "".join([tag_set.get(tag, OTHER) for tag in tags])

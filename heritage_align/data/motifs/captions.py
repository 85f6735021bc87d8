"""Captions of designs: templates in Chinese and English, two vocabularies, and where the noun phrases are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heritage_align.data.motifs.design import Design, Element
from heritage_align.data.motifs.vocabulary import COLOURS, GROUNDS, LAYOUTS, MOTIFS, Domain, Language

_ZH_COUNTS = ("", "一", "两", "三", "四", "五", "六")
_EN_COUNTS = ("", "one", "two", "three", "four", "five", "six")
MANY = len(_EN_COUNTS)  # from here on a caption says "several" (数): nobody counts further at a glance


@dataclass(frozen=True)
class Segment:
    """A run of words of a caption.

    Attributes:
        words: English words, or one Chinese string.
        phrase: whether the run is a noun phrase that names a motif or the ground.
    """

    words: tuple[str, ...]
    phrase: bool = False


@dataclass(frozen=True)
class Caption:
    """A caption in parts.

    Attributes:
        language: ``"zh"`` (parts are joined without spaces) or ``"en"``.
        segments: its parts in order.
    """

    language: Language
    segments: tuple[Segment, ...]

    def _join(self, words: Sequence[str]) -> str:
        if self.language == "zh":
            return "".join(words)
        return " ".join(words).replace(" ,", ",")

    @property
    def text(self) -> str:
        """The sentence."""
        return self._join([w for s in self.segments for w in s.words])

    @property
    def phrases(self) -> tuple[str, ...]:
        """The noun phrases in order, each of them a part of `text`."""
        return tuple(self._join(s.words) for s in self.segments if s.phrase and s.words)


def phrase(element: Element, language: Language, domain: Domain = "general") -> str:
    """Return the noun phrase of an element, for example ``白色牡丹`` or ``white peonies``."""
    plural = len(element.instances) > 1
    colour = COLOURS[element.colour].name(language, domain)
    motif = MOTIFS[element.motif].name(language, domain, plural=plural)
    return colour + motif if language == "zh" else f"{colour} {motif}"


def ground_phrase(design: Design, language: Language, domain: Domain = "general") -> str:
    """Return the noun phrase of the ground, for example ``大红地`` or ``crimson ground``."""
    return GROUNDS[design.ground].name(language, domain)


def _counted(element: Element, language: Language, domain: Domain) -> tuple[Segment, Segment]:
    count = len(element.instances)
    name = phrase(element, language, domain)
    if language == "zh":
        number = (_ZH_COUNTS[count] if count < MANY else "数") + MOTIFS[element.motif].measure
        return Segment((number,)), Segment((name,), phrase=True)
    number = _EN_COUNTS[count] if count < MANY else "several"
    return Segment((number,)), Segment(tuple(name.split()), phrase=True)


def _chinese(design: Design, order: Sequence[int], form: int, domain: Domain) -> tuple[Segment, ...]:
    ground = Segment((ground_phrase(design, "zh", domain),), phrase=True)
    layout = LAYOUTS[design.layout].name("zh", domain)
    parts: list[Segment] = [ground, Segment((layout + ("，饰", "，绣", "，织")[form],))]
    for k, row in enumerate(order):
        if k:
            parts.append(Segment(("、" if k < len(order) - 1 else ("和", "，间以", "及")[form],)))
        parts.extend(_counted(design.elements[row], "zh", domain))
    return tuple(parts)


def _english(design: Design, order: Sequence[int], form: int, domain: Domain) -> tuple[Segment, ...]:
    ground = Segment(tuple(ground_phrase(design, "en", domain).split()), phrase=True)
    layout = Segment(tuple(LAYOUTS[design.layout].name("en", domain).split()))
    things: list[Segment] = []
    for k, row in enumerate(order):
        if k:
            things.append(Segment(("and",) if k == len(order) - 1 else (",",)))
        things.extend(_counted(design.elements[row], "en", domain))
    if form == 0:
        return (*things, Segment(("on",)), ground, Segment((",",)), layout)
    return (layout, Segment((",",)), ground, Segment(("with",)), *things)


def caption(design: Design, language: Language, domain: Domain, rng: np.random.Generator) -> Caption:
    """Describe a design: ground, layout and every element, the largest first, the others in any order.

    Args:
        design: what to describe.
        language: ``"zh"`` or ``"en"``.
        domain: ``"general"`` or ``"specialist"`` words.
        rng: chooses the template and the order.
    """
    order = [0, *(1 + rng.permutation(len(design.elements) - 1)).tolist()]
    if language == "zh":
        return Caption("zh", _chinese(design, order, int(rng.integers(3)), domain))
    return Caption("en", _english(design, order, int(rng.integers(2)), domain))

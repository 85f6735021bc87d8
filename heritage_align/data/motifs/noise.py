"""Translation noise: what a careless machine does to an English caption, word by word, at a known rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heritage_align.data.motifs.captions import Caption, Segment
from heritage_align.data.motifs.vocabulary import COLOURS, GROUNDS, MOTIFS

_WRONG_TERMS = (
    tuple(word for term in MOTIFS.values() for word in (term.en, term.en_plural)),
    tuple(term.en for term in COLOURS.values()),
    tuple(term.en.split()[0] for term in GROUNDS.values()),
    ("one", "two", "three", "four", "five", "six", "several"),
)
_OTHERWISE = ("pattern", "type", "style", "old", "of", "the")  # what stands in for words of no group above


@dataclass(frozen=True)
class Noisy:
    """A caption after noise.

    Attributes:
        caption: what is left of it.
        words: words that could have been hit (commas cannot).
        hits: words that were.
    """

    caption: Caption
    words: int
    hits: int


def _wrong_term(word: str, rng: np.random.Generator) -> str:
    """Return another word of the same group, so that a sentence stays plausible and is false."""
    group = next((g for g in _WRONG_TERMS if any(word in term.split() for term in g)), _OTHERWISE)
    return str(rng.choice([t for t in group if word not in t.split()]))


def corrupt(caption: Caption, rate: float, rng: np.random.Generator) -> Noisy:
    """Hit every word independently with probability `rate`.

    A hit drops the word, swaps it with the next one of its run, or puts a wrong term in its place, each as
    often. Phrases change with the words in them.

    Args:
        caption: an English caption.
        rate: 0..1.
        rng: source of chance.

    Raises:
        ValueError: `rate` is no probability, or the caption is not English.
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"rate: expected a probability, got {rate}")
    if caption.language != "en":
        raise ValueError(f"caption: only English captions are translations here, got {caption.language!r}")
    segments = []
    words = hits = 0
    for segment in caption.segments:
        left: list[str | None] = list(segment.words)
        swaps = []
        for k, word in enumerate(segment.words):
            if word == ",":
                continue
            words += 1
            if rng.random() >= rate:
                continue
            hits += 1
            kind = int(rng.integers(3))
            if kind == 1 and k + 1 < len(left):
                swaps.append(k)
            else:  # a word with no next word cannot swap and gets a wrong term
                left[k] = _wrong_term(word, rng) if kind else None
        for k in swaps:
            left[k], left[k + 1] = left[k + 1], left[k]
        segments.append(Segment(tuple(word for word in left if word is not None), segment.phrase))
    return Noisy(Caption("en", tuple(segments)), words, hits)

"""The motif collection as a data set: pictures drawn on demand, captions, exact regions of every phrase."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from heritage_align.data.motifs.captions import Caption, caption, ground_phrase, phrase
from heritage_align.data.motifs.design import SPLITS, Design, Split, artwork
from heritage_align.data.motifs.draw import box, render
from heritage_align.data.motifs.noise import corrupt
from heritage_align.data.motifs.vocabulary import DOMAINS, LANGUAGES, Domain, Language
from heritage_align.errors import DataError
from heritage_align.types import GoldenPair, TextItem

if TYPE_CHECKING:
    from PIL.Image import Image

_CAPTION_STREAM, _NOISE_STREAM = (
    1,
    2,
)  # streams of chance beside that of the designs (which uses three numbers)
MIN_SIZE = 64  # px; below it small motifs are a few pixels


class Motifs:
    """A split of the motif collection; satisfies `heritage_align.protocols.Dataset`.

    An *artwork* is one design in several pictures that differ from the first in a single detail: the hard
    distractors of each other. Splits share no artwork. Everything follows from `seed`; pictures do not depend
    on the words asked for, and the first artworks of a split do not depend on how many are asked for.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        artworks: number of artworks.
        variants: pictures of each.
        size: side of a picture in pixels.
        languages: of the captions, one caption a picture and language.
        domain: ``"general"`` or ``"specialist"`` words.
        noise: share of the words of an English caption that a bad translation hits, 0..1; golden phrases stay
            clean.
        seed: of the whole collection.

    Attributes:
        artwork_of: image id -> artwork id, what cross-validation by artwork splits on.
        designs: image id -> what the picture shows.

    Raises:
        DataError: a setting is out of range.
    """

    def __init__(
        self,
        split: Split = "test",
        artworks: int = 125,
        variants: int = 4,
        size: int = 256,
        languages: Sequence[Language] = LANGUAGES,
        domain: Domain = "general",
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.name = f"motifs-{split}"
        self._check(split, artworks, variants, size, languages, domain, noise)
        self.size = size
        self._languages = tuple(languages)
        self._domain: Domain = domain
        self.designs: dict[str, Design] = {}
        self.artwork_of: dict[str, str] = {}
        texts: list[TextItem] = []
        for number in range(artworks):
            artwork_id = f"{split}-{number:05d}"
            for k, design in enumerate(artwork(seed, split, number, variants)):
                image_id = f"{artwork_id}-{k}"
                self.designs[image_id] = design
                self.artwork_of[image_id] = artwork_id
                key = (seed, SPLITS.index(split), number, k)
                texts.extend(self._texts(image_id, design, key, noise))
        self.image_ids = tuple(self.designs)
        self.texts = tuple(texts)

    def _check(
        self,
        split: str,
        artworks: int,
        variants: int,
        size: int,
        languages: Sequence[str],
        domain: str,
        noise: float,
    ) -> None:
        problems = []
        if split not in SPLITS:
            problems.append(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
        if domain not in DOMAINS:
            problems.append(f"domain: expected one of {', '.join(DOMAINS)}, got {domain!r}")
        if not languages or any(language not in LANGUAGES for language in languages):
            problems.append(f"languages: expected some of {', '.join(LANGUAGES)}, got {list(languages)}")
        if artworks < 1 or variants < 1:
            problems.append(f"artworks, variants: expected at least 1, got {artworks}, {variants}")
        if size < MIN_SIZE:
            problems.append(f"size: expected at least {MIN_SIZE} px, got {size}")
        if not 0.0 <= noise <= 1.0:
            problems.append(f"noise: expected 0..1, got {noise}")
        if problems:
            raise DataError(f"{self.name}: " + "; ".join(problems))

    def _texts(self, image_id: str, design: Design, key: tuple[int, ...], noise: float) -> list[TextItem]:
        items = []
        for language in self._languages:
            stream = LANGUAGES.index(language)
            rng = np.random.default_rng((*key, _CAPTION_STREAM, stream))
            words: Caption = caption(design, language, self._domain, rng)
            if language == "en" and noise:
                words = corrupt(words, noise, np.random.default_rng((*key, _NOISE_STREAM))).caption
            items.append(TextItem(f"{image_id}-{language}", words.text, (image_id,), words.phrases, language))
        return items

    @cached_property
    def golden(self) -> tuple[GoldenPair, ...]:
        """Every drawn motif with its tight box and its phrases, and the ground with the whole picture.

        The phrases are those of the captions, one for each language.
        """
        pairs: list[GoldenPair] = []
        whole = (0.0, 0.0, float(self.size), float(self.size))
        for image_id, design in self.designs.items():
            names = tuple(ground_phrase(design, language, self._domain) for language in self._languages)
            pairs.append(GoldenPair(image_id, whole, names))
            for row, element in enumerate(design.elements):
                names = tuple(phrase(element, language, self._domain) for language in self._languages)
                for number in range(len(element.instances)):
                    pairs.append(GoldenPair(image_id, box(design, row, number, self.size), names))
        return tuple(pairs)

    def load_image(self, image_id: str) -> Image:
        """Draw a picture, RGB ``size x size``.

        Raises:
            DataError: no picture has this id.
        """
        if image_id not in self.designs:
            raise DataError(f"{self.name}: has no image {image_id!r}")
        return render(self.designs[image_id], self.size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self.image_ids)} images, {len(self.texts)} texts)"

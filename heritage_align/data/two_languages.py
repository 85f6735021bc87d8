"""Captions in two languages, one of them translated by a machine: which caption is the translation of which.

Cross-lingual training sets have human captions in a source language and their machine translations (Multi30K: English
to German, French, Czech; MSCOCO: to Chinese, Japanese; VATEX: to Chinese). A reader gives both as texts of one data
set; the pairs are found here.
"""

from __future__ import annotations

from typing import NamedTuple

from heritage_align.data.problems import Problems
from heritage_align.protocols import Dataset
from heritage_align.types import TextItem


class CaptionPair(NamedTuple):
    """A caption, its translation and the image of both."""

    image_id: str
    source: TextItem
    target: TextItem


def pair_captions(dataset: Dataset, source: str, target: str) -> tuple[CaptionPair, ...]:
    """Pair every image's captions: the k-th in the source language with the k-th in the target language.

    Captions in other languages are left out, and so are images that have neither.

    Args:
        dataset: texts with `language` set; each belongs to one image.
        source: language of the human captions, for example ``"en"``.
        target: language of the translations, for example ``"de"``.

    Returns:
        Pairs in the order of the source captions.

    Raises:
        DataError: the languages are the same, a language has no caption, a caption belongs to several images, or an
            image has another number of captions in one language than in the other.
    """
    problems = Problems(dataset.name)
    by_image: dict[str, tuple[list[TextItem], list[TextItem]]] = {}
    if source == target:
        problems.add("languages", f"source and target are both {source!r}")
    for item in dataset.texts:
        if item.language not in (source, target):
            continue
        if len(item.image_ids) != 1:
            problems.add(f"text {item.id!r}", f"belongs to {len(item.image_ids)} images, a pair needs one")
            continue
        sides = by_image.setdefault(item.image_ids[0], ([], []))
        sides[item.language == target].append(item)
    problems.raise_if_any()
    for language, side in ((source, 0), (target, 1)):
        if not any(sides[side] for sides in by_image.values()):
            there = ", ".join(sorted({repr(item.language) for item in dataset.texts})) or "no text at all"
            problems.add(f"language {language!r}", f"has no caption; there is {there}")
    problems.raise_if_any()
    for image_id, (human, translated) in by_image.items():
        if len(human) != len(translated):
            found = f"{len(human)} captions in {source!r} and {len(translated)} in {target!r}"
            problems.add(f"image {image_id!r}", f"has {found}; each needs its translation")
    problems.raise_if_any()
    return tuple(
        CaptionPair(image_id, one, other)
        for image_id, (human, translated) in by_image.items()
        for one, other in zip(human, translated)
    )

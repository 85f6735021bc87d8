"""Pictures with their captions, and how an epoch's batches are drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from heritage_align.data import artworks, union_parts
from heritage_align.plugin import DataError, Dataset, TextItem

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Pictures that have a caption.

    Attributes:
        image_ids: their ids.
        texts: all captions of theirs.
        captions: for every picture the rows of `texts` that belong to it, at least one.
        artworks: for every picture what it is a picture of; none: each is of an artwork of its own.
        sources: for every picture the part of a union that it is from; none: all are of one.
    """

    image_ids: tuple[str, ...]
    texts: tuple[TextItem, ...]
    captions: tuple[tuple[int, ...], ...]
    artworks: tuple[str, ...] = ()
    sources: tuple[int, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.captions))


def pairs_of(dataset: Dataset, without: frozenset[str] = frozenset()) -> Pairs:
    """Return a data set's pairs; pictures without captions and captions without pictures are left out.

    Args:
        dataset: pictures and captions.
        without: pictures that cannot be read.

    Raises:
        DataError: a caption is blank, or nothing is left.
    """
    known = {image_id: row for row, image_id in enumerate(dataset.image_ids) if image_id not in without}
    texts = tuple(item for item in dataset.texts if any(image_id in known for image_id in item.image_ids))
    blank = [item.id for item in texts if not item.text.strip()]
    if blank:
        raise DataError(f"{dataset.name}: {len(blank)} blank captions, the first is text {blank[0]!r}")
    captions: list[list[int]] = [[] for _ in dataset.image_ids]
    for row, item in enumerate(texts):
        for image_id in dict.fromkeys(item.image_ids):
            if image_id in known:
                captions[known[image_id]].append(row)
    if not texts:
        raise DataError(f"{dataset.name}: no caption belongs to any of its {len(known)} pictures")
    kept = [row for row, own in enumerate(captions) if own]
    image_ids = tuple(dataset.image_ids[row] for row in kept)
    artwork_of, source_of = artworks(dataset), union_parts(dataset)
    return Pairs(
        image_ids,
        texts,
        tuple(tuple(captions[row]) for row in kept),
        tuple(artwork_of[image_id] for image_id in image_ids),
        tuple(source_of[image_id] for image_id in image_ids),
    )


def batch_count(pairs: Pairs, batch_size: int, captions: Literal["all", "one"]) -> int:
    """Return how many full batches an epoch has: as many as there can be with no picture twice in any of them."""
    counts = np.array([1 if captions == "one" else len(own) for own in pairs.captions])
    number = int(counts.sum()) // batch_size
    while number and int(np.minimum(counts, number).sum()) < number * batch_size:
        number = int(np.minimum(counts, number).sum()) // batch_size
    return number


def draw_batches(
    pairs: Pairs, batch_size: int, captions: Literal["all", "one"], generator: np.random.Generator, together: int = 1
) -> list[Rows]:
    """Draw an epoch's batches.

    Args:
        pairs: what is drawn from.
        batch_size: pairs a batch.
        captions: ``"all"``: every pair once, but for the few that fill no batch; ``"one"``: every picture once, with
            one of its captions.
        generator: all chance.
        together: with captions ``"one"``, so many pictures of one artwork are in the same batch, each other's hard
            negatives, but where the end of a batch comes between them.

    Returns:
        `batch_count` times ``(batch_size, 2)``: rows of `Pairs.image_ids` and of `Pairs.texts`; no picture is twice in
        a batch, so that no picture is its own negative.
    """
    number = batch_count(pairs, batch_size, captions)
    if together > 1:
        order = _by_artwork(pairs, together, generator)[: number * batch_size]
        drawn = [(row, int(generator.choice(pairs.captions[row]))) for row in order]
        return list(np.array(drawn, dtype=np.int64).reshape(number, batch_size, 2))
    limit = 1 if captions == "one" else number
    # In a random order, so that what no batch has room for is another picture's caption every epoch.
    own = [generator.permutation(listed)[:limit].tolist() for listed in pairs.captions]
    waiting = generator.permutation(np.repeat(np.arange(len(own)), [len(rows) for rows in own])).tolist()
    while len(waiting) > number * batch_size:
        own[waiting.pop()].pop()
    left = np.array([len(rows) for rows in own])
    batches = []
    for remaining in range(number, 0, -1):
        # A picture with a caption for every batch that is left must be in this one. As none has more, there is a
        # picture for every place to the end.
        chosen = dict.fromkeys(np.flatnonzero(left == remaining).tolist())
        later: list[int] = []
        while len(chosen) < batch_size:
            row = waiting.pop()
            if left[row] == 0:
                continue
            if row in chosen:
                later.append(row)
            else:
                chosen[row] = None
        waiting += reversed(later)
        left[list(chosen)] -= 1
        batches.append(np.array([(row, own[row].pop()) for row in chosen], dtype=np.int64))
    return batches


def _by_artwork(pairs: Pairs, together: int, generator: np.random.Generator) -> list[int]:
    """Return all pictures in random order, but pictures of an artwork one after the other, `together` at a time."""
    of: dict[str, list[int]] = {}
    for row in generator.permutation(len(pairs.captions)).tolist():
        of.setdefault(pairs.artworks[row], []).append(row)
    groups = [rows[k : k + together] for rows in of.values() for k in range(0, len(rows), together)]
    return [row for group in generator.permutation(len(groups)).tolist() for row in groups[group]]

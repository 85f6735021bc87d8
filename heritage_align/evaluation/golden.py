"""The golden set as a retrieval problem: which annotated fragments there are, which phrases, what belongs to what.

**Identical phrases are pooled.** In a collection the same words name several fragments ("blue ground"). Kept apart,
they would be candidates with equal scores of which only some count as right, and a recall that depends on their order.
So a phrase is one candidate and one query whatever the number of its fragments, and an answer is right for a pair of
a fragment and a *string*: every fragment that carries the string answers it, and the string answers each of them. Where
all phrases differ, as in the golden sets of Sheng et al. (2021, section 3), this is their definition. Phrases are
compared as they are written; annotations of one box of one picture are one fragment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heritage_align.errors import DataError
from heritage_align.types import GoldenPair

Box = tuple[float, float, float, float]
BoolMatrix = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GoldenSet:
    """Distinct fragments, distinct phrases and their relevance; made by `pool_golden`.

    Attributes:
        image_ids: ``n_fragments`` pictures.
        boxes: ``n_fragments`` boxes in pixels of the upright picture.
        phrases: ``n_phrases`` distinct strings.
        relevant: ``(n_fragments, n_phrases)`` bool; every row and every column has a True.
    """

    image_ids: tuple[str, ...]
    boxes: tuple[Box, ...]
    phrases: tuple[str, ...]
    relevant: BoolMatrix

    @property
    def fragment_ids(self) -> tuple[str, ...]:
        """``<image id>#<number in the picture>``, the queries of image annotation."""
        seen: dict[str, int] = {}
        names = []
        for image_id in self.image_ids:
            seen[image_id] = seen.get(image_id, -1) + 1
            names.append(f"{image_id}#{seen[image_id]}")
        return tuple(names)

    @property
    def pictures(self) -> tuple[str, ...]:
        """Pictures that have a fragment, in order."""
        return tuple(dict.fromkeys(self.image_ids))

    def by_picture(self) -> BoolMatrix:
        """Return ``(n_pictures, n_phrases)``: whether the phrase names any fragment of the picture."""
        rows = {image_id: row for row, image_id in enumerate(self.pictures)}
        relevant = np.zeros((len(rows), len(self.phrases)), dtype=np.bool_)
        for image_id, phrases in zip(self.image_ids, self.relevant):
            relevant[rows[image_id]] |= phrases
        return relevant

    def groups(self, artwork_of: Mapping[str, str]) -> dict[str, str]:
        """Return query -> artwork for paired tests (`significance.compare`): fragments, pictures and phrases.

        A phrase that names fragments of several artworks is one query and counts to the first of them.

        Args:
            artwork_of: image id -> artwork; a picture without an entry is its own.
        """
        artworks = [artwork_of.get(image_id, image_id) for image_id in self.image_ids]
        queries = dict(zip(self.phrases, (artworks[row] for row in self.relevant.argmax(axis=0))))
        return {**queries, **dict(zip(self.image_ids, artworks)), **dict(zip(self.fragment_ids, artworks))}

    def select(self, image_ids: Collection[str]) -> tuple[GoldenSet, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Keep the fragments of some pictures and the phrases that name them, for example those of a fold.

        Returns:
            The smaller set, and the rows and columns of this one that it is made of.

        Raises:
            DataError: none of the pictures has a golden pair.
        """
        wanted = set(image_ids)
        rows = np.array([r for r, image_id in enumerate(self.image_ids) if image_id in wanted], dtype=np.int64)
        if not len(rows):
            raise DataError(f"none of the {len(wanted)} pictures has a golden pair")
        columns = np.flatnonzero(self.relevant[rows].any(axis=0)).astype(np.int64)
        smaller = GoldenSet(
            tuple(self.image_ids[r] for r in rows),
            tuple(self.boxes[r] for r in rows),
            tuple(self.phrases[c] for c in columns),
            self.relevant[np.ix_(rows, columns)],
        )
        return smaller, rows, columns

    def references(self) -> list[list[str]]:
        """Return for every fragment its phrases, what BLEU compares the first-ranked phrase with."""
        return [[self.phrases[c] for c in np.flatnonzero(row)] for row in self.relevant]


def pool_golden(pairs: Sequence[GoldenPair], name: str = "the data set") -> GoldenSet:
    """Pool annotated pairs: one row a box of a picture, one column a distinct phrase, both in order of appearance.

    Args:
        pairs: the annotations.
        name: of the data set, for errors.

    Raises:
        DataError: there is no pair, or one has no phrase, a blank phrase, or a box without an area.
    """
    if not pairs:
        raise DataError(f"{name} has no golden pairs: there is nothing to evaluate fragments with")
    rows: dict[tuple[str, Box], int] = {}
    columns: dict[str, int] = {}
    right: list[tuple[int, int]] = []
    for number, pair in enumerate(pairs):
        place = f"{name}: golden pair {number} of image {pair.image_id!r}"
        box = _checked_box(pair.box, place)
        if not pair.phrases or any(not isinstance(p, str) or not p.strip() for p in pair.phrases):
            raise DataError(f"{place}: expected one or more phrases that are not blank, got {pair.phrases!r}")
        row = rows.setdefault((pair.image_id, box), len(rows))
        right += [(row, columns.setdefault(phrase, len(columns))) for phrase in pair.phrases]
    relevant = np.zeros((len(rows), len(columns)), dtype=np.bool_)
    relevant[tuple(np.array(right).T)] = True
    return GoldenSet(tuple(i for i, _ in rows), tuple(b for _, b in rows), tuple(columns), relevant)


def _checked_box(box: Sequence[Any], place: str) -> Box:
    numbers = tuple(float(v) for v in box)
    if len(numbers) != 4 or not np.isfinite(numbers).all() or numbers[0] >= numbers[2] or numbers[1] >= numbers[3]:
        raise DataError(f"{place}: expected a box (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got {tuple(box)!r}")
    return numbers[0], numbers[1], numbers[2], numbers[3]

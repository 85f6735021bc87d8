"""Which phrase every patch and every region of a picture shows, by the golden regions of the data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from heritage_align.data import Boxes, areas, common_areas
from heritage_align.plugin import DataError, Dataset

COVERED = 0.3  # share of a patch that a region must cover to lend the patch its phrase
WITHIN = 0.6  # ... or share of the region that lies in the patch, for regions smaller than a patch
GROUND = 0.9  # a region that covers this share of the picture is its ground
EMPTY = 0.02  # a patch of which other regions cover less than this shows the ground

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Golden:
    boxes: Boxes
    names: tuple[tuple[str, ...], ...]


class Shown(NamedTuple):
    """What the pictures of a batch show, as places among phrases.

    Attributes:
        patches: ``(n, grid * grid)``; -1 where a patch shows no region clearly.
        boxes: of each picture the golden regions that are not its ground, ``(n_regions, 4)`` in patches from the left
            and from the top.
        regions: ``(sum of n_regions,)``, what these show.
        phrases: of all regions of these pictures, each once.
    """

    patches: Labels
    boxes: tuple[Boxes, ...]
    regions: Labels
    phrases: tuple[str, ...]


class GoldenPhrases:
    """Labels the patches and the golden regions of a data set's pictures.

    Args:
        dataset: its golden pairs; phrases of a pair are names of one thing, for example in two languages.
        image_ids: the pictures, by row.
        grid: patches in a row of the encoder's square input.

    Attributes:
        rows: every phrase -> its row among all of them.
        alternatives: phrases of the region that has most.

    Raises:
        DataError: no picture has a golden region with a phrase.
    """

    def __init__(self, dataset: Dataset, image_ids: Sequence[str], grid: int) -> None:
        rows = {image_id: row for row, image_id in enumerate(image_ids)}
        listed: dict[int, list[tuple[tuple[float, float, float, float], tuple[str, ...]]]] = {}
        for pair in dataset.golden:
            if pair.image_id in rows and pair.phrases:
                listed.setdefault(rows[pair.image_id], []).append((pair.box, pair.phrases))
        if not listed:
            raise DataError(
                f"{dataset.name}: has no golden regions with phrases, which train.patch_weight and "
                "train.region_weight learn from"
            )
        self._golden = {
            row: _Golden(np.array([box for box, _ in pairs]), tuple(names for _, names in pairs))
            for row, pairs in listed.items()
        }
        self.rows = {
            name: row
            for row, name in enumerate(
                dict.fromkeys(name for golden in self._golden.values() for names in golden.names for name in names)
            )
        }
        self.alternatives = max(len(names) for golden in self._golden.values() for names in golden.names)
        self._grid = grid
        ticks = np.arange(grid) / grid
        x, y = np.meshgrid(ticks, ticks)
        self._patches: Boxes = np.stack([x, y, x + 1 / grid, y + 1 / grid], -1).reshape(-1, 4)
        self._regions: dict[int, Labels] = {}

    def batch(self, rows: Sequence[int], sizes: Sequence[tuple[int, int]], alternative: int) -> Shown:
        """Label the patches and regions of a batch.

        Args:
            rows: of the pictures.
            sizes: width and height of each, in pixels.
            alternative: which of a region's phrases names it; the last one where it has fewer.
        """
        phrases: dict[str, int] = {}
        labels = np.full((len(rows), len(self._patches)), -1, dtype=np.int64)
        boxes: list[Boxes] = [np.zeros((0, 4))] * len(rows)
        shown: list[npt.NDArray[np.int64]] = []
        for k, (row, size) in enumerate(zip(rows, sizes)):
            golden = self._golden.get(row)
            if golden is None:
                continue
            if row not in self._regions:
                self._regions[row] = shown_regions(golden.boxes, self._patches * np.array([*size, *size]), size)
            named = [names[min(alternative, len(names) - 1)] for names in golden.names]
            places = np.array([phrases.setdefault(name, len(phrases)) for name in named] + [-1])
            labels[k] = places[self._regions[row]]
            motifs = ~_is_ground(golden.boxes, size)
            boxes[k] = golden.boxes[motifs] * (self._grid / np.array([*size, *size]))
            shown.append(places[:-1][motifs])
        return Shown(labels, tuple(boxes), np.concatenate(shown or [labels[:0, 0]]), tuple(phrases))


def shown_regions(boxes: Boxes, patches: Boxes, size: tuple[int, int]) -> Labels:
    """Return the region that each patch shows, -1 for none.

    A patch shows the region that covers most of it, if that is `COVERED` of the patch or `WITHIN` of the region; the
    ground where next to nothing covers it.

    Args:
        boxes: ``(n_regions, 4)`` in pixels.
        patches: ``(n_patches, 4)`` in pixels.
        size: width and height of the picture.
    """
    common, own = common_areas(patches, boxes), areas(boxes)
    is_ground = _is_ground(boxes, size)
    covered = np.where(is_ground, 0.0, common / areas(patches[0]))
    best, at = covered.argmax(1), np.arange(len(patches))
    share = covered[at, best]
    within = common[at, best] >= WITHIN * np.maximum(own[best], 1e-9)
    clear = (share > 0) & ((share >= COVERED) | within)
    ground = int(np.flatnonzero(is_ground)[0]) if is_ground.any() else -1
    found: Labels = np.where(clear, best, np.where(covered.sum(1) < EMPTY, ground, -1))
    return found


def _is_ground(boxes: Boxes, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = areas(boxes) >= GROUND * size[0] * size[1]
    return found

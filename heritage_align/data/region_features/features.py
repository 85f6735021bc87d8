"""Region features in memory or mapped from a file: ragged, by image id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from heritage_align.data.region_features import checks
from heritage_align.data.region_features.matching import IdMatcher
from heritage_align.data.region_features.rows import best_first, means, narrowed, taken, with_rows
from heritage_align.data.spans import FileSpans
from heritage_align.errors import DataError
from heritage_align.types import FloatArray, Regions

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class RegionFeatures:
    """Features of the regions of `n` images, end to end: image ``i`` has the rows ``offsets[i]:offsets[i + 1]``.

    Shapes, ids and boxes are checked when it is made, features when they are chosen (`select`): a mapped file may be
    larger than the memory.

    Attributes:
        source: where they come from, the beginning of every error.
        ids: ``n`` image ids, each once.
        offsets: ``(n + 1,)`` int64, ascending from 0 to the number of regions.
        values: ``(total_regions, dim)`` float16, float32 or float64.
        boxes: ``(total_regions, 4)`` float32 xyxy as fractions of width and height, never empty: a side is at least
            `checks.SHORTEST_SIDE`.
        objectness: ``(total_regions,)`` float32, the score by which the best are chosen, or None.
        global_features: ``(n, dim)`` of the whole images, or None; then the mean of all regions of an image stands
            for it.
        keypoints: ``(total_regions,)`` integers, SIFT keypoints of each region (Sheng et al. 2021, eq. 11), or None.
        keep: ``(total_regions,)`` bool, False for a region that is masked, or None where all are kept; an image
            whose regions are all masked keeps all.
        files: of the mapped arrays; looked at before they are read, as one that was cut meanwhile would end the process
            (SIGBUS). () for arrays in memory.

    Raises:
        DataError: something does not fit; names the source and the array or the image.
    """

    source: str
    ids: tuple[str, ...]
    offsets: Array
    values: Array
    boxes: Array
    objectness: Array | None = None
    global_features: Array | None = None
    keypoints: Array | None = None
    keep: Array | None = None
    files: tuple[FileSpans, ...] = ()

    def __post_init__(self) -> None:
        checks.ids(self.source, self.ids)
        checks.matrix(self.source, "values", self.values)
        total = len(self.values)
        object.__setattr__(self, "offsets", checks.offsets(self.source, self.offsets, len(self.ids), total))
        object.__setattr__(self, "boxes", checks.boxes(self.source, self.boxes, total, self.place))
        for name, kinds in (("objectness", "f"), ("keypoints", "iu"), ("keep", "b")):
            checks.column(self.source, name, getattr(self, name), total, kinds)
        if self.global_features is not None:
            checks.matrix(self.source, "global", self.global_features, (len(self.ids), self.dim))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Width of the features."""
        return int(self.values.shape[1])

    @property
    def counts(self) -> NDArray[np.int64]:
        """``(n,)`` regions of each image."""
        return np.diff(self.offsets)

    def place(self, row: int) -> str:
        """Name the image and the region, from 0, of a row of `values`."""
        image = int(np.searchsorted(self.offsets, row, side="right")) - 1
        return f"image {self.ids[image]!r}, region {row - int(self.offsets[image])}"

    def select(
        self, ids: Sequence[str], *, count: int | None = None, empty: Literal["error", "whole"] = "error"
    ) -> RegionFeatures:
        """Return the features of some images in the order of `ids`, in memory, under these ids.

        Args:
            ids: of images, each once; they may be spelled otherwise than in the file (`matching`).
            count: regions an image at most, the best first by objectness (equal ones in the file's order; without
                objectness the first of the file). None takes all in the file's order.
            empty: what becomes of an image without regions. ``error``: see below; ``whole``: the whole image is its
                region, with the file's global feature and objectness 0.

        Raises:
            DataError: names the first ids without features and says what the file's ids look like; names images
                without regions, and features that are NaN or infinite.
        """
        images = self._matcher.rows(ids)
        self.refuse_changed()
        bounds = [(int(self.offsets[image]), int(self.offsets[image + 1])) for image in images]
        picked = [best_first(start, stop, self.objectness, count) for start, stop in bounds]
        bare = [i for i, rows in enumerate(picked) if not len(rows)]
        if bare and (empty == "error" or self.global_features is None):
            reason = "" if empty == "error" else ", and the file has no global features to stand for them"
            raise DataError(f"{self.source}: {checks.first_of([ids[i] for i in bare])} without regions{reason}")
        rows = np.concatenate([np.empty(0, np.int64), *picked])
        chosen = RegionFeatures(
            self.source,
            tuple(ids),
            np.cumsum([0, *(len(own) for own in picked)]),
            self.values[rows],
            self.boxes[rows],
            taken(self.objectness, rows),
            self._whole(images),
            taken(self.keypoints, rows),
            taken(self.keep, rows),
        )
        checks.finite(self.source, "features", chosen.values, lambda row: self.place(int(rows[row])))
        assert chosen.global_features is not None
        checks.finite(self.source, "global features", chosen.global_features, lambda i: f"image {ids[i]!r}")
        return chosen._with_whole_images(bare)

    def mask_by_keypoints(self, least: int) -> RegionFeatures:
        """Return the same with `keep` narrowed to regions of at least so many keypoints (Sheng et al. 2021, eq. 11).

        An image in which no region would be left stays as it was.

        Raises:
            DataError: the file has no keypoints.
        """
        if self.keypoints is None:
            raise DataError(f"{self.source}: has no 'keypoints', so that regions cannot be masked by their number")
        return replace(self, keep=narrowed(self.keep, self.keypoints >= least, self.offsets))

    def regions(self) -> list[Regions]:
        """Return one `Regions` an image, boxes as fractions, features in float32.

        Raises:
            DataError: there are no global features, and an image has no regions whose mean could stand for it.
        """
        self.refuse_changed()
        whole = self.global_features if self.global_features is not None else self._whole(range(len(self)))
        keep = None if self.keep is None else narrowed(None, self.keep, self.offsets)
        found = []
        for image, (start, stop) in enumerate(zip(self.offsets[:-1], self.offsets[1:])):
            own = slice(int(start), int(stop))
            found.append(
                Regions(
                    self.boxes[own],
                    scores=taken(self.objectness, own),
                    keep=taken(keep, own),
                    features=self.values[own].astype(np.float32),
                    global_feature=whole[image].astype(np.float32),
                )
            )
        return found

    def refuse_changed(self) -> None:
        """Raise DataError where the arrays are mapped and a file of theirs was changed since."""
        for file in self.files:
            file.refuse_changed()

    @cached_property
    def _matcher(self) -> IdMatcher:
        return IdMatcher(self.ids, self.source)

    def _whole(self, images: Sequence[int]) -> FloatArray:
        """Return ``(len(images), dim)``: the file's global features, or the means of all regions."""
        if self.global_features is not None:
            chosen: FloatArray = self.global_features[np.asarray(images, dtype=np.int64)]
            return chosen
        counts = self.counts
        bare = [self.ids[image] for image in images if counts[image] == 0]
        if bare:
            raise DataError(f"{self.source}: {checks.first_of(bare)} without regions and without global features")
        return means(self.values, self.offsets, images)

    def _with_whole_images(self, bare: Sequence[int]) -> RegionFeatures:
        """Give images without regions one: all of the image, with its global feature."""
        if not bare:
            return self
        assert self.global_features is not None
        at = self.offsets[list(bare)]
        counts = self.counts
        counts[list(bare)] = 1
        return replace(
            self,
            offsets=np.cumsum([0, *counts]),
            values=np.insert(self.values, at, self.global_features[list(bare)], axis=0),
            boxes=np.insert(self.boxes, at, np.array([0, 0, 1, 1], dtype=np.float32), axis=0),
            objectness=with_rows(self.objectness, at, 0.0),
            keypoints=with_rows(self.keypoints, at, 0),
            keep=with_rows(self.keep, at, True),
        )

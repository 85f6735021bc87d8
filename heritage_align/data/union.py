"""Several data sets as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from heritage_align.data.subset import artworks
from heritage_align.errors import DataError
from heritage_align.protocols import Dataset, ImageFile, ImageFiles, UnitedDataset

if TYPE_CHECKING:
    from PIL.Image import Image

    from heritage_align.types import GoldenPair


class Union:
    """The pictures, texts and golden pairs of several data sets, one after the other; satisfies `Dataset`.

    Args:
        parts: the data sets.

    Attributes:
        artwork_of: image id -> artwork id; an artwork that several parts have is one artwork.
        source_of: image id -> number of the part that it is from, see `union_parts`.

    Raises:
        DataError: there is no part, or an image or text id is in two parts.
    """

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self.name = "+".join(part.name for part in parts)
        if not parts:
            raise DataError("union: of no data set")
        self._parts = tuple(parts)
        self.source_of: dict[str, int] = {}
        self.artwork_of: dict[str, str] = {}
        texts: dict[str, int] = {}
        for number, part in enumerate(parts):
            artwork_of = artworks(part)
            for image_id in part.image_ids:
                self._claim(self.source_of, "image", image_id, number)
                self.artwork_of[image_id] = artwork_of[image_id]
            for item in part.texts:
                self._claim(texts, "text", item.id, number)
        self.image_ids = tuple(self.source_of)
        self.texts = tuple(item for part in parts for item in part.texts)

    def _claim(self, owners: dict[str, int], kind: str, name: str, number: int) -> None:
        if name in owners:
            both = f"{self._parts[owners[name]].name} and {self._parts[number].name}"
            raise DataError(f"union: {kind} {name!r} is in two of its parts, {both}; ids must be told apart")
        owners[name] = number

    @cached_property
    def golden(self) -> tuple[GoldenPair, ...]:
        """All parts' golden pairs, made when they are asked for: those of drawn collections take a while."""
        return tuple(pair for part in self._parts for pair in part.golden)

    def load_image(self, image_id: str) -> Image:
        """Return an upright RGB image; raises DataError for an id of no part."""
        return self._part_of(image_id).load_image(image_id)

    def image_file(self, image_id: str) -> ImageFile | None:
        """Return the picture's file where its part has files; raises DataError for an id of no part."""
        part = self._part_of(image_id)
        return part.image_file(image_id) if isinstance(part, ImageFiles) else None

    def _part_of(self, image_id: str) -> Dataset:
        if image_id not in self.source_of:
            raise DataError(f"{self.name}: has no image {image_id!r}")
        return self._parts[self.source_of[image_id]]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self.image_ids)} images, {len(self.texts)} texts)"


def union_parts(dataset: Dataset) -> Mapping[str, int]:
    """Return image id -> part of a union that it is from: the data set's ``source_of``, or 0 for all."""
    return dataset.source_of if isinstance(dataset, UnitedDataset) else dict.fromkeys(dataset.image_ids, 0)

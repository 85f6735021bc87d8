"""A part of a data set: some pictures with their texts, and the split of one into parts that share no artwork."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from heritage_align.errors import DataError
from heritage_align.protocols import ArtworkDataset, Dataset, ImageFile, ImageFiles

if TYPE_CHECKING:
    from PIL.Image import Image


class Subset:
    """Some pictures of a data set, the texts that belong to none but them, and their golden pairs.

    Args:
        whole: the data set.
        image_ids: ids of the part, in any order; that of the data set is kept.
        name: of the part.

    Attributes:
        artwork_of: image id -> artwork id (see `artworks`).

    Raises:
        DataError: an id is not in the data set, or the part is empty.
    """

    def __init__(self, whole: Dataset, image_ids: Collection[str], name: str) -> None:
        wanted = set(image_ids)
        unknown = sorted(wanted.difference(whole.image_ids))
        if unknown or not wanted:
            found = f"has no image {unknown[0]!r}" if unknown else "the part holds no picture"
            raise DataError(f"{name}: {found} ({whole.name} has {len(whole.image_ids)})")
        self.name = name
        self.image_ids = tuple(i for i in whole.image_ids if i in wanted)
        self.texts = tuple(item for item in whole.texts if item.image_ids and wanted.issuperset(item.image_ids))
        self.golden = tuple(pair for pair in whole.golden if pair.image_id in wanted)
        every = artworks(whole)
        self.artwork_of = {i: every[i] for i in self.image_ids}
        self._whole = whole

    def load_image(self, image_id: str) -> Image:
        """Return an upright RGB image; raises DataError for an id of another part."""
        self._require(image_id)
        return self._whole.load_image(image_id)

    def image_file(self, image_id: str) -> ImageFile | None:
        """Return the picture's file where the data set has files; raises DataError for an id of another part."""
        self._require(image_id)
        return self._whole.image_file(image_id) if isinstance(self._whole, ImageFiles) else None

    def _require(self, image_id: str) -> None:
        if image_id not in self.artwork_of:
            raise DataError(f"{self.name}: has no image {image_id!r}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self.image_ids)} images, {len(self.texts)} texts)"


def artworks(dataset: Dataset) -> Mapping[str, str]:
    """Return image id -> artwork id: as the data set tells (`protocols.ArtworkDataset`), or each picture for itself."""
    if isinstance(dataset, ArtworkDataset):
        return dataset.artwork_of
    return {image_id: image_id for image_id in dataset.image_ids}


def hold_out(dataset: Dataset, share: float) -> tuple[Dataset, Dataset | None]:
    """Split off a share of the artworks, whatever the order of the pictures; returns the rest and the part.

    Artworks are ordered by a hash of their id, so that the part is the same in every run and grows with the share.

    Args:
        dataset: what is split.
        share: 0..1 of the artworks, rounded; 0 gives no part.

    Raises:
        DataError: the share takes every artwork.
    """
    of = artworks(dataset)
    names = sorted(set(of.values()), key=lambda name: hashlib.sha256(name.encode()).digest())
    count = round(share * len(names))
    if count == 0:
        return dataset, None
    if count == len(names):
        raise DataError(f"{dataset.name}: {len(names)} artworks are too few to hold out a share of {share:g}")
    held = set(names[:count])
    inside = [image_id for image_id in dataset.image_ids if of[image_id] in held]
    outside = [image_id for image_id in dataset.image_ids if of[image_id] not in held]
    return Subset(dataset, outside, f"{dataset.name}/train"), Subset(dataset, inside, f"{dataset.name}/validation")

"""Random crops of a data set's pictures, each with the texts of its whole picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from heritage_align.data.kept_pictures import KeptPictures
from heritage_align.data.subset import artworks
from heritage_align.errors import DataError
from heritage_align.protocols import Dataset
from heritage_align.types import GoldenPair

if TYPE_CHECKING:
    from PIL.Image import Image

SMALLEST, LARGEST = 0.3, 1.0
"""Area of a crop over its picture's, at least and at most."""


class Cropped:
    """Crops under their pictures' texts, as CLIP was trained on them (Radford et al. 2021); satisfies `Dataset`.

    An encoder of whole pictures alone gives a crop features that its picture's texts know nothing of. A crop has its
    picture's proportions and lies anywhere in it. Its texts name things that it may not show, as captions of cropped
    pictures do; golden regions are left to `Details`, so that a crop has none.

    Args:
        whole: pictures with texts; pictures without any have no crops.
        each: crops of a picture.
        scale: least and largest area of a crop over its picture's, 0..1.
        seed: of the crops.
        kept_mib: MiB of whole pictures that are kept in memory, as many crops come from one.

    Attributes:
        artwork_of: image id -> artwork id of the picture that a crop is of.

    Raises:
        DataError: `scale` is not ascending within 0..1, or no picture has a text.
    """

    golden: tuple[GoldenPair, ...] = ()

    def __init__(
        self, whole: Dataset, *, each: int = 1, scale: tuple[float, float] = (SMALLEST, LARGEST), seed: int = 0,
        kept_mib: int = 512,
    ) -> None:  # fmt: skip
        self.name = f"{whole.name}/cropped"
        if not 0 < scale[0] <= scale[1] <= 1:
            raise DataError(f"{self.name}: scale: expected two ascending shares of the area, up to 1, got {scale}")
        self._pictures = KeptPictures(whole, kept_mib * 2**20)
        told = {image_id for item in whole.texts for image_id in item.image_ids}
        artwork_of = artworks(whole)
        # What a crop is of, the share of its picture's sides that it keeps, and its place in what that leaves free.
        self._crops: dict[str, tuple[str, float, float, float]] = {}
        self.artwork_of: dict[str, str] = {}
        for place, image_id in enumerate(whole.image_ids):
            for number in range(each if image_id in told else 0):
                area, x, y = np.random.default_rng((seed, place, number)).random(3).tolist()
                crop = f"{image_id}/crop-{number}"
                self._crops[crop] = image_id, (scale[0] + (scale[1] - scale[0]) * area) ** 0.5, x, y
                self.artwork_of[crop] = artwork_of[image_id]
        if not self._crops:
            raise DataError(f"{self.name}: no picture of {whole.name} has a text")
        self.image_ids = tuple(self._crops)
        crops_of: dict[str, list[str]] = {}
        for crop, (image_id, *_) in self._crops.items():
            crops_of.setdefault(image_id, []).append(crop)
        self.texts = tuple(
            replace(item, id=f"crop: {item.id}", image_ids=tuple(own))
            for item in whole.texts
            if (own := [crop for image_id in item.image_ids for crop in crops_of.get(image_id, ())])
        )

    def load_image(self, image_id: str) -> Image:
        """Return a crop, RGB, of at least a pixel; raises DataError for an id that is not of this data set."""
        if image_id not in self._crops:
            raise DataError(f"{self.name}: has no image {image_id!r}")
        source, side, x, y = self._crops[image_id]
        image = self._pictures.load(source)
        width, height = (max(1, round(side * pixels)) for pixels in image.size)
        left, top = round(x * (image.width - width)), round(y * (image.height - height))
        return image.crop((left, top, left + width, top + height))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self.image_ids)} images, {len(self.texts)} texts)"

"""Two ways to train with changed copies of regions (Sheng et al. 2021, section 4.1): as more regions, or averaged."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL.Image import Image

from heritage_align.data.augment import Augmentation, augment_image
from heritage_align.data.boxes import pixel_box
from heritage_align.errors import DataError
from heritage_align.types import FloatArray, Regions

Form = Literal["add", "mean"]


def region_copies(
    image: Image,
    boxes: FloatArray,
    *,
    seed: int,
    image_id: str,
    count: int = 1,
    settings: Augmentation | None = None,
) -> list[Image]:
    """Return `count` changed crops of every region, those of one region together, cropped as regions are encoded.

    Args:
        image: the upright RGB picture.
        boxes: ``(n_regions, 4)`` xyxy in pixels.
        seed: the run's seed.
        image_id: of the picture.
        count: copies of a region.
        settings: strengths; None for the defaults.

    Returns:
        ``n_regions * count`` pictures, in the order that `with_copies` takes their features in.
    """
    copies = []
    for region, box in enumerate(np.asarray(boxes).tolist()):
        crop = image.crop(pixel_box(box))
        for copy in range(count):
            copies.append(
                augment_image(crop, seed=seed, image_id=image_id, region=region, copy=copy, settings=settings)
            )
    return copies


def with_copies(regions: Regions, copies: FloatArray, form: Form) -> Regions:
    """Join the features of regions with those of their changed copies, in one of the paper's two forms.

    Args:
        regions: of one picture, with `features` ``(n_regions, dim)``.
        copies: ``(n_regions * count, dim)``, features of `region_copies`.
        form: ``add`` makes every copy a region of its own, after the one that it is made from and with its box, score
            and mask; ``mean`` gives every region the mean of its own features and those of its copies.

    Raises:
        DataError: the regions have no features, or the copies' do not fit them.
    """
    own = regions.features
    if own is None:
        raise DataError("augmentation: the regions have no features to join their copies' with")
    if copies.ndim != 2 or copies.shape[1] != own.shape[1] or len(copies) % max(len(own), 1):
        raise DataError(
            f"augmentation: expected the same number of copies of each of {len(own)} regions, {own.shape[1]} wide, got "
            f"{tuple(copies.shape)}"
        )
    count = len(copies) // max(len(own), 1)
    stacked = np.concatenate([own[:, None], copies.reshape(len(own), count, own.shape[1])], axis=1)
    if form == "mean":
        return Regions(
            boxes=regions.boxes,
            scores=regions.scores,
            keep=regions.keep,
            features=stacked.mean(axis=1).astype(own.dtype),
            global_feature=regions.global_feature,
        )
    return Regions(
        boxes=np.repeat(regions.boxes, count + 1, axis=0),
        scores=None if regions.scores is None else np.repeat(regions.scores, count + 1),
        keep=None if regions.keep is None else np.repeat(regions.keep, count + 1),
        features=stacked.reshape(-1, own.shape[1]).astype(own.dtype),
        global_feature=regions.global_feature,
    )

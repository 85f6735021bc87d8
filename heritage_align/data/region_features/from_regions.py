"""Region features out of what a proposer found: to compute them once and keep them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heritage_align.data.region_features.features import RegionFeatures
from heritage_align.errors import DataError
from heritage_align.types import Regions


def features_of_regions(
    ids: Sequence[str], regions: Sequence[Regions], sizes: Sequence[tuple[int, int]], source: str = "regions"
) -> RegionFeatures:
    """Return the features that a proposer gave to its regions.

    Args:
        ids: of the images.
        regions: with features, boxes in pixels, one an image, at least one image.
        sizes: ``(width, height)`` of the images in pixels.
        source: the beginning of errors.

    Raises:
        DataError: names the first image whose regions came without features.
    """
    values, boxes, whole = [], [], []
    for image_id, found, (width, height) in zip(ids, regions, sizes, strict=True):
        if found.features is None or found.global_feature is None:
            raise DataError(f"{source}: image {image_id!r}: its regions came without features")
        values.append(found.features)
        whole.append(found.global_feature)
        boxes.append(found.boxes / np.array([width, height, width, height], dtype=np.float32))
    scores = [found.scores for found in regions if found.scores is not None]
    masks = [np.ones(len(found), dtype=bool) if found.keep is None else found.keep for found in regions]
    return RegionFeatures(
        source,
        tuple(ids),
        np.cumsum([0, *(len(found) for found in regions)]),
        np.concatenate(values),
        np.concatenate(boxes),
        np.concatenate(scores) if len(scores) == len(regions) else None,
        np.stack(whole),
        keep=None if all(found.keep is None for found in regions) else np.concatenate(masks),
    )

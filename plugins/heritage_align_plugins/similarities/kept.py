"""Leave masked regions out, for scores that have no attention to mask."""

from __future__ import annotations

import torch
from torch import Tensor

from heritage_align.ops import Ragged
from heritage_align.plugin import ImageFeatures


def regions_of(images: ImageFeatures) -> Ragged:
    """Return the regions; raises ValueError where the features were made without a proposer."""
    if images.regions is None:
        raise ValueError("these image features have no regions: encode them with a config that names a proposer")
    return images.regions


def kept_regions(images: ImageFeatures) -> Ragged:
    """Return the regions that no filter masked; a filter never masks all of an image's regions."""
    regions = regions_of(images)
    if images.keep is None or bool(images.keep.all()):
        return regions
    kept = torch.cat([images.keep.new_zeros(1, dtype=torch.int64), images.keep.to(torch.int64).cumsum(0)])
    scales = None if regions.scales is None else regions.scales[images.keep]
    return Ragged(regions.values[images.keep], kept[regions.offsets], scales)


def masked_low(responses: Tensor, images: ImageFeatures) -> Tensor:
    """Set the responses ``(n_fragments, n_regions)`` of masked regions to -1, the lowest cosine."""
    if images.keep is None:
        return responses
    return responses.masked_fill(~images.keep.to(responses.device), -1.0)

"""Join features that were encoded batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from heritage_align.ops import Ragged
from heritage_align.types import ImageFeatures

T = TypeVar("T")


def concat_images(parts: Sequence[ImageFeatures]) -> ImageFeatures:
    """Concatenate batches of image features in their order.

    A mask that only some batches have is filled with True for the others.

    Raises:
        ValueError: no batches, or some have regions and some have none.
    """
    if not parts:
        raise ValueError("concat_images: expected at least one batch of features")
    if len({part.regions is None for part in parts}) == 2:
        raise ValueError("concat_images: some batches have regions and some have none")
    return ImageFeatures(
        ids=tuple(i for part in parts for i in part.ids),
        global_features=torch.cat([part.global_features for part in parts]),
        regions=_joined([part.regions for part in parts], Ragged.concat),
        boxes=_joined([part.boxes for part in parts], torch.cat),
        keep=_joined_masks(parts),
        factor=_joined([part.factor for part in parts], torch.cat),
        folded=_joined([part.folded for part in parts], torch.cat),
    )


def _joined(parts: Sequence[T | None], join: Callable[[list[T]], T]) -> T | None:
    present = [part for part in parts if part is not None]
    return join(present) if len(present) == len(parts) else None


def _joined_masks(parts: Sequence[ImageFeatures]) -> Tensor | None:
    if all(part.keep is None for part in parts):
        return None
    masks = []
    for part in parts:
        if part.keep is not None:
            masks.append(part.keep)
        elif part.regions is not None:
            masks.append(torch.ones(part.regions.total, dtype=torch.bool, device=part.regions.device))
    return torch.cat(masks)

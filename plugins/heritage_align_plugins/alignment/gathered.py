"""The batch of all processes: negatives are mined among all its pictures and captions, whoever encoded them."""

from __future__ import annotations

import torch

from heritage_align.ops import Ragged
from heritage_align.plugin import ImageFeatures, TextFeatures
from heritage_align.training import distributed


def all_images(images: ImageFeatures) -> ImageFeatures:
    """Return every process's images, in the order of ranks; gradients flow back to their process."""
    if distributed.world_size() == 1:
        return images
    assert images.regions is not None
    return ImageFeatures(
        images.ids,
        distributed.gather_uneven(images.global_features),
        all_rows(images.regions),
        keep=None if images.keep is None else distributed.gather_uneven(images.keep.to(torch.uint8)).bool(),
    )


def all_texts(texts: TextFeatures) -> TextFeatures:
    """Return every process's texts, in the order of ranks; gradients flow back to their process."""
    if distributed.world_size() == 1:
        return texts
    assert texts.fragments is not None
    return TextFeatures(texts.ids, distributed.gather_uneven(texts.global_features), all_rows(texts.fragments))


def all_rows(items: Ragged) -> Ragged:
    """Return every process's items, in the order of ranks; gradients flow back to their process."""
    if distributed.world_size() == 1:
        return items
    lengths = distributed.gather_uneven(items.lengths)
    return Ragged(distributed.gather_uneven(items.values), torch.nn.functional.pad(lengths.cumsum(0), (1, 0)))

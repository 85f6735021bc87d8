"""Join features that were encoded batch by batch, take one out of them, move them, multiply them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from heritage_align.ops import Ragged
from heritage_align.types import ImageFeatures, TextFeatures

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


def one_image(features: ImageFeatures, row: int) -> ImageFeatures:
    """Return the image at a row of a batch, as views; without its factor."""
    picked = ImageFeatures((features.ids[row],), features.global_features[row : row + 1])
    if features.folded is not None:
        picked.folded = features.folded[row : row + 1]
    if features.regions is not None:
        first, last = features.regions.host_offsets[row : row + 2].tolist()
        picked.regions = features.regions[row : row + 1]  # type: ignore[assignment]  # a slice gives a Ragged
        picked.boxes = boxes_of(features, row)
        picked.keep = None if features.keep is None else features.keep[first:last]
    return picked


def boxes_of(features: ImageFeatures, row: int) -> Tensor | None:
    """Return the boxes ``(n_regions, 4)`` of the image at a row of a batch, a view, or None if the batch has none."""
    if features.boxes is None or features.regions is None:
        return None
    first, last = features.regions.host_offsets[row : row + 2].tolist()
    return features.boxes[first:last]


def one_text(features: TextFeatures, row: int) -> TextFeatures:
    """Return the text at a row of a batch, as views."""
    fragments = None if features.fragments is None else features.fragments[row : row + 1]
    return TextFeatures(
        (features.ids[row],),
        features.global_features[row : row + 1],
        fragments,  # type: ignore[arg-type]  # a slice gives a Ragged
        features.phrases[row : row + 1],
    )


def candidate_images(features: ImageFeatures, candidates: Tensor | None) -> tuple[ImageFeatures, Tensor | None]:
    """Return the images that candidates ask for, each once and without factors, and the candidates as rows of these.

    For a similarity that copies or computes something of all images that it is given, which may be a whole store.

    Args:
        features: of images.
        candidates: ``(n_texts, k)`` rows of `features`, -1 for none; with None all images are asked for.
    """
    if candidates is None:
        return features, candidates
    rows, place = candidates.clamp_min(0).unique(return_inverse=True)
    if len(rows) == len(features):
        return features, candidates
    whole = features.global_features
    chosen = ImageFeatures(
        tuple(features.ids[row] for row in rows.tolist()), whole[rows] if len(whole) == len(features) else whole[:0]
    )
    if features.folded is not None:
        chosen.folded = features.folded[rows]
    if features.regions is not None:
        at = features.regions.rows_of(rows)
        chosen.regions = features.regions.select(rows)
        chosen.boxes = None if features.boxes is None else features.boxes[at]
        chosen.keep = None if features.keep is None else features.keep[at]
    return chosen, torch.where(candidates < 0, -1, place)


def moved(features: ImageFeatures, device: torch.device) -> ImageFeatures:
    """Return features on a device; those that are there already are not copied."""

    def there(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(device)

    return ImageFeatures(
        features.ids,
        features.global_features.to(device),
        regions=None if features.regions is None else features.regions.to(device=device),
        boxes=there(features.boxes),
        keep=there(features.keep),
        factor=there(features.factor),
        folded=there(features.folded),
    )


def dot(vectors: Tensor, queries: Tensor, candidates: Tensor | None) -> Tensor:
    """Dot products of ``(n_images, dim)`` and ``(n_texts, dim)`` in fp32.

    Args:
        vectors: of images, in any floating type.
        queries: of texts.
        candidates: ``(n_texts, k)`` rows of `vectors`, -1 for none; all pairs where None.

    Returns:
        ``(n_images, n_texts)``, or ``(n_texts, k)`` with -inf for none.
    """
    queries = queries.float()
    if candidates is None:
        return vectors.float() @ queries.T
    # Converted after they are picked: a shard or a store in place has far more rows than a list asks for.
    picked = vectors[candidates.clamp_min(0)].float()
    return torch.einsum("qkd,qd->qk", picked, queries).masked_fill(candidates < 0, float("-inf"))


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

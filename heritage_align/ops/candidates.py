"""Candidate lists: which images each text is scored against when not all pairs are wanted."""

from __future__ import annotations

import torch
from torch import Tensor

from . import checks
from .backend import kernels_on
from .ragged import Ragged

MANY_TEXTS = 16  # fewer leave the tiles of a kernel for all pairs mostly empty
ON_HOPPER = (torch.float16, torch.bfloat16, torch.int8)  # what the kernels for Hopper take


def check_candidates(
    candidates: Tensor | None, n_texts: int, n_images: int, device: torch.device, *, check_finite: bool
) -> Tensor | None:
    """Return ``candidates`` as contiguous int64 ``(n_texts, k)``.

    Args:
        candidates: image ids, -1 where there is none; or None for all pairs.
        n_texts: how many rows there must be.
        n_images: ids must be smaller.
        device: where they must be.
        check_finite: whether the ids themselves are looked at on a GPU, which waits for the device; on the CPU they
            always are.

    Raises:
        ValueError: for a wrong shape, dtype or device, or an id outside -1..n_images-1.
    """
    if candidates is None:
        return None
    checks.tensor("candidates", candidates, shape=(n_texts, None), dtypes=(torch.int64, torch.int32), device=device)
    if (check_finite or candidates.is_cpu) and checks.can_read_data(candidates) and candidates.numel():
        low, high = int(candidates.min()), int(candidates.max())
        if low < -1 or high >= n_images:
            raise ValueError(
                f"candidates must be image ids in 0..{n_images - 1}, or -1 for none; got {low if low < -1 else high}"
            )
    return (candidates if candidates.dtype == torch.int64 else candidates.to(torch.int64)).contiguous()


def ask_for_most(candidates: Tensor, texts: Ragged, images: Ragged) -> bool:
    """Whether lists are so full that a kernel for all pairs, which is made for whole tiles, does them sooner.

    With the kernels for Hopper that is a tenth of all pairs: measured on an H100 for SCAN (16, 64 and 256 texts, 1000
    images of 36 x 1024, float16), all pairs take about 3 ns a pair and lists 35, so they meet where a text asks for 9 %
    of the images (15 % for 16 texts). With the others it is half.

    Args:
        candidates: ``(n_texts, k)``, checked.
        texts: whose rows the lists are.
        images: what the ids are of.
    """
    if len(texts) < MANY_TEXTS or len(images) == 0:
        return False
    asked, pairs = candidates.numel(), len(texts) * len(images)
    if 2 * asked >= pairs:
        return True
    return 10 * asked >= pairs and images.dtype in ON_HOPPER and kernels_on(candidates.device) == "hopper"


def of_candidates(scores: Tensor, candidates: Tensor) -> Tensor:
    """Pick ``(n_texts, k)`` out of the scores of all pairs ``(n_images, n_texts)``; -inf where no such image is."""
    exists = (candidates >= 0) & (candidates < scores.shape[0])
    return scores.T.gather(1, torch.where(exists, candidates, 0)).masked_fill(~exists, -torch.inf)

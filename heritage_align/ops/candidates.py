"""Candidate lists: which images each text is scored against when not all pairs are wanted."""

from __future__ import annotations

import torch
from torch import Tensor

from . import checks


def check_candidates(
    candidates: Tensor | None, n_texts: int, n_images: int, device: torch.device, *, read: bool
) -> Tensor | None:
    """Return ``candidates`` as contiguous int64 ``(n_texts, k)``.

    Args:
        candidates: image ids, -1 where there is none; or None for all pairs.
        n_texts: how many rows there must be.
        n_images: ids must be smaller.
        device: where they must be.
        read: whether the ids themselves are looked at; on a GPU that waits for the device.

    Raises:
        ValueError: for a wrong shape, dtype or device, or an id outside -1..n_images-1.
    """
    if candidates is None:
        return None
    checks.tensor("candidates", candidates, shape=(n_texts, None), dtypes=(torch.int64, torch.int32), device=device)
    if read and checks.can_read_data(candidates) and candidates.numel():
        low, high = int(candidates.min()), int(candidates.max())
        if low < -1 or high >= n_images:
            raise ValueError(
                f"candidates must be image ids in 0..{n_images - 1}, or -1 for none; got {low if low < -1 else high}"
            )
    return candidates.to(torch.int64).contiguous()


def pairs_by_image(candidates: Tensor, n_images: int) -> tuple[Tensor, Tensor]:
    """Sort the candidate pairs image-major, so that a kernel reads each image once for all the texts that ask for it.

    Runs on the device of ``candidates`` without waiting for it.

    Returns:
        ``order (n_texts * k,)`` int64: positions in ``candidates.flatten()``, those of -1 last; and
        ``starts (n_images + 1,)`` int64: the pairs of image ``i`` are ``order[starts[i]:starts[i + 1]]``.
    """
    flat = candidates.flatten()
    keys = torch.where(flat < 0, n_images, flat)
    ordered, order = keys.sort(stable=True)
    starts = torch.searchsorted(ordered, torch.arange(n_images + 1, device=flat.device))
    return order, starts

"""The order of the captions in an epoch."""

from __future__ import annotations

import torch
from torch import Tensor


def captions_of(owners: Tensor) -> dict[int, list[int]]:
    """Return the captions of every picture that has one, both in order.

    Args:
        owners: ``(n_captions,)`` the picture of every caption.
    """
    captions: dict[int, list[int]] = {}
    for caption, owner in enumerate(owners.tolist()):
        captions.setdefault(owner, []).append(caption)
    return dict(sorted(captions.items()))


def epoch_batches(owners: Tensor, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Return batches of captions, shuffled, no picture twice in a batch: its other caption would be a false negative.

    Every caption is in one batch; a batch of a single caption, which has no negative, is left out.

    Args:
        owners: ``(n_captions,)`` the picture of every caption.
        batch_size: captions in a batch at most.
        seed: of the run.
        epoch: from 0.

    Returns:
        Rows of captions, int64, one tensor a batch.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    shuffled = torch.randperm(len(owners), generator=generator)
    # The k-th caption of every picture goes into round k, so a round has no picture twice.
    seen: dict[int, int] = {}
    rounds: list[list[int]] = []
    for row in shuffled.tolist():
        owner = int(owners[row])
        turn = seen.get(owner, 0)
        seen[owner] = turn + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(row)
    batches = []
    for rows in rounds:
        order = torch.randperm(len(rows), generator=generator)
        batches += list(torch.tensor(rows)[order].split(batch_size))
    return [batch for batch in batches if len(batch) > 1]

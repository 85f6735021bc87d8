"""Encode many pictures or texts without gradient, shared among the processes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from heritage_align.training import distributed
from heritage_align_plugins.contrastive.feeding import Batch, Feeder

EncodeBlock = Callable[[Batch], Tensor]


def blocks_of(count: int, size: int) -> list[Batch]:
    """Return this process's blocks of the rows 0 .. `count`: every ``world_size``-th one of all blocks.

    The blocks do not depend on the number of processes, so that features come out the same to the last bit.
    """
    starts = list(range(0, count, size))[distributed.rank() :: distributed.world_size()]
    return [Batch(n, tuple(range(start, min(start + size, count))), ()) for n, start in enumerate(starts)]


@torch.no_grad()
def encode_rows(
    count: int, dim: int, size: int, encode: EncodeBlock, device: torch.device, *, label: str, quiet: bool = True,
    feeder: Feeder | None = None,
) -> Tensor:  # fmt: skip
    """Encode the rows 0 .. `count`.

    Args:
        count: rows in all.
        dim: of their features.
        size: rows encoded at once.
        encode: features ``(n, dim)`` of a block's rows.
        device: where the features go.
        label: of the progress bar.
        quiet: no progress bar.
        feeder: is told which blocks will be asked for.

    Returns:
        ``(count, dim)`` fp32, the same in every process.
    """
    blocks = blocks_of(count, size)
    if feeder is not None:
        feeder.begin(0, blocks)
    features = torch.zeros(count, dim, device=device)
    for block in tqdm(blocks, label, leave=False, disable=True if quiet or distributed.rank() else None):
        features[block.pictures[0] : block.pictures[-1] + 1] = encode(block)
    if distributed.world_size() > 1:
        dist.all_reduce(features)  # all others have zeros there
    return features

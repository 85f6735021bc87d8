"""Several processes under torchrun, one GPU each (or none): who am I, gather with gradients, average gradients.

Nothing here is needed in one process: every function then returns its argument.

    >>> import torch
    >>> from heritage_align.training import distributed
    >>> distributed.rank(), distributed.world_size(), distributed.gather(torch.ones(2)).tolist()
    (0, 1, [1.0, 1.0])
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = [
    "average_gradients",
    "barrier",
    "from_first",
    "gather",
    "gather_uneven",
    "process_group",
    "rank",
    "world_size",
]


def rank() -> int:
    """Return this process's number, 0 in a single process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Join the processes that torchrun started; yields this process's device.

    Without torchrun's environment (``WORLD_SIZE``) nothing is joined.

    Args:
        device: ``"cpu"`` or ``"cuda"``; of several GPUs each process takes that of its local rank.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield device
        return
    if device.startswith("cuda"):
        local = int(os.environ.get("LOCAL_RANK", "0"))
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device
        # The first process serves the others' addresses: it must not be the first to leave.
        dist.barrier()
    finally:
        dist.destroy_process_group()


def gather(rows: Tensor) -> Tensor:
    """Concatenate every process's ``(n, ...)`` in the order of ranks; gradients flow back to their process.

    All processes must hold equally many rows. The gradient that arrives is the sum over the processes, so that with
    the same loss in every process it is ``world_size`` times the loss's: `average_gradients` divides it out.
    """
    if world_size() == 1:
        return rows
    return cast(Tensor, _Gather.apply(rows))


def gather_uneven(rows: Tensor) -> Tensor:
    """Concatenate every process's ``(n_i, ...)``, of which each may hold another number of rows; else as `gather`."""
    if world_size() == 1:
        return rows
    counts = gather(torch.tensor([len(rows)], device=rows.device)).tolist()
    most = max(counts)
    whole = gather(torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])]))
    return torch.cat([whole[rank * most : rank * most + count] for rank, count in enumerate(counts)])


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over the processes; one message for all of a dtype."""
    if world_size() == 1:
        return
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            if parameter.grad is None:  # a part that only another process used
                parameter.grad = torch.zeros_like(parameter)
            by_dtype.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in by_dtype.values():
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= world_size()
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
            gradient.copy_(mean.view_as(gradient))


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


def from_first(number: float) -> float:
    """Return the first process's number in every process: what only one of them may decide."""
    if world_size() == 1:
        return number
    shared = torch.tensor([number], dtype=torch.float64)
    if dist.get_backend() == "nccl":
        shared = shared.cuda()
    dist.broadcast(shared, 0)
    return float(shared.item())


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(world_size())[rank()]

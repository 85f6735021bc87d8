"""Copies from mapped files to a GPU through pinned memory, where the copy of one piece runs beside the next."""

from __future__ import annotations

import torch
from torch import Tensor

PIECE_BYTES = 32 * 2**20
"""Of one pinned buffer; there are two. Large enough that a copy takes its full rate (a few MiB suffice on PCIe)."""


class Staging:
    """Two pinned buffers: the host fills one while the device copies the other. On the CPU copies are plain.

    Args:
        device: where to.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._turn = 0
        self._buffers: list[Tensor] = []
        self._copied: list[torch.cuda.Event] = []
        if device.type == "cuda":
            self._buffers = [torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
            self._copied = [torch.cuda.Event() for _ in range(2)]

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Copy a contiguous tensor on the host to one of its shape on the device, on the current stream.

        The source may change once this has returned; the target is whole after `finish`, or for later work of the
        stream.
        """
        if not self._buffers:
            target.copy_(source)
            return
        pieces = _bytes_of(target).split(PIECE_BYTES)
        for piece, there in zip(_bytes_of(source).split(PIECE_BYTES), pieces):
            buffer, copied = self._buffers[self._turn], self._copied[self._turn]
            copied.synchronize()  # of the copy before last; returns at once where there was none
            buffer[: len(piece)].copy_(piece)
            there.copy_(buffer[: len(piece)], non_blocking=True)
            copied.record(torch.cuda.current_stream(self._device))
            self._turn = 1 - self._turn

    def finish(self) -> None:
        """Wait until all copies are done."""
        for copied in self._copied:
            copied.synchronize()


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the host; to a GPU through pinned memory, so that the host does not wait for the stream."""
    if device.type != "cuda" or not tensor.numel():
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _bytes_of(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)

"""Copies to the encoder's device: from pinned memory, beside the model's work on the batch before."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Uploads:
    """Moves tensors to a GPU on a stream of its own; to the CPU nothing is moved.

    Args:
        device: of the encoder.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._queued: deque[torch.cuda.Event] = deque()

    def pinned(self, values: NDArray[np.uint8]) -> Tensor:
        """Return an array as a tensor that a GPU can read beside other work; called from several threads."""
        if self._stream is None:
            return torch.from_numpy(values)
        with torch.cuda.device(self._device):  # a thread begins on GPU 0, and would take memory there
            tensor = torch.empty(values.shape, dtype=torch.uint8, pin_memory=True)
        # By numpy: a copy by torch starts torch's own threads from each of ours.
        np.copyto(tensor.numpy(), values)
        return tensor

    def stacked(self, tensors: Sequence[Tensor]) -> Tensor:
        """Stack tensors of the CPU and move them."""
        if self._stream is None:
            return torch.stack(list(tensors))
        shape = (len(tensors), *tensors[0].shape)
        together = torch.empty(shape, dtype=tensors[0].dtype, pin_memory=True)
        return self.moved(torch.stack(list(tensors), out=together))

    def moved(self, tensor: Tensor) -> Tensor:
        """Move a pinned tensor; what is queued after this call on the current stream waits for the copy."""
        if self._stream is None:
            return tensor
        with torch.cuda.stream(self._stream):
            copy = tensor.to(self._device, non_blocking=True)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        copy.record_stream(current)
        return copy

    def settle(self) -> None:
        """Call after every batch: waits until the device has done the one before, so that at most two are alive."""
        if self._stream is None:
            return
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        self._queued.append(event)
        if len(self._queued) > 1:
            self._queued.popleft().synchronize()

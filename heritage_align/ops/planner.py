"""Host-side plans for the GPU: whole captions in bins of 64 words, computed once for a set of texts."""

from __future__ import annotations

import torch
from torch import Tensor

from .ragged import Ragged

try:
    from . import _planner  # type: ignore[attr-defined]
except ImportError:
    _planner = None

BIN_WORDS = 64  # the words of one tile of the CUDA drivers


def plain_first_fit_decreasing(lengths: list[int], capacity: int) -> tuple[list[int], list[int]]:
    """What the compiled planner does, for where it is not built."""
    bins: list[tuple[int, list[int]]] = []
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        for b, (used, members) in enumerate(bins):
            if used <= capacity and used + lengths[item] <= capacity:
                bins[b] = (used + lengths[item], [*members, item])
                break
        else:
            bins.append((lengths[item], [item]))
    starts = [0]
    for _, members in bins:
        starts.append(starts[-1] + len(members))
    return [item for _, members in bins for item in members], starts


def first_fit_decreasing(lengths: list[int], capacity: int) -> tuple[list[int], list[int]]:
    """Bin items of these lengths, longest first, each into the first bin with room.

    Returns:
        The order of the items, and where each bin starts in it (with the end last). An item longer than ``capacity``
        has a bin to itself.
    """
    if _planner is None:
        return plain_first_fit_decreasing(lengths, capacity)
    order, starts = _planner.first_fit_decreasing(lengths, capacity)
    return order, starts


def text_bins(texts: Ragged) -> tuple[Tensor | None, Tensor | None]:
    """``order (n_texts,)`` and ``starts (n_bins + 1,)`` int32 on the device of ``texts``, which keeps them."""
    if torch.compiler.is_compiling():
        return None, None
    plan = texts._bins
    if plan is None:
        host = texts.host_offsets
        order, starts = first_fit_decreasing((host[1:] - host[:-1]).tolist(), BIN_WORDS)
        with torch.inference_mode(False):  # what is kept may be saved for a gradient later
            plan = (
                torch.tensor(order, dtype=torch.int32, device=texts.device),
                torch.tensor(starts, dtype=torch.int32, device=texts.device),
            )
        texts._bins = plan
    return plan

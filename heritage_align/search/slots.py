"""One of two places that chunks of a store take turns in on their way to a device."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from heritage_align.ops import Ragged
from heritage_align.search.resident import region_parts
from heritage_align.search.scoring import Wanted
from heritage_align.store import Store
from heritage_align.types import ImageFeatures

ALIGNMENT = 64
"""Bytes; where a tensor begins in the buffer. The kernels want 16, and 64 keeps rows of 32 numbers in whole lines."""


class Slot:
    """A pinned buffer, filled from mapped files and copied to the device on a stream of its own.

    On the CPU the buffer is ordinary memory, and the features that `load` returns are views of it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffer = torch.empty(0, dtype=torch.uint8)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._copied = torch.cuda.Event() if device.type == "cuda" else None

    def load(self, store: Store, rows: Tensor, wanted: Wanted) -> ImageFeatures:
        """Return the regions of ascending rows on the device, ready for work on the current stream.

        They are good until this slot is loaded again. `global_features` are empty.

        Args:
            store: with regions.
            rows: int64, on the host.
            wanted: what the similarity reads.
        """
        if self._copied is not None:
            self._copied.synchronize()  # the buffer's last copy; returns at once where there was none
        features = self._filled(store, rows, wanted)
        if self._stream is None or self._copied is None:
            return features
        compute = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            there = self._sent(features)
            self._copied.record(self._stream)
        compute.wait_event(self._copied)
        assert there.regions is not None
        used = [there.regions.values, there.regions.scales, there.regions.offsets, there.keep, there.factor]
        used += [there.regions.factor_offsets if there.factor is not None else None]
        for tensor in used:
            if tensor is not None and tensor.numel():
                tensor.record_stream(compute)  # made on the copying stream: not to be given away before the kernels ran
        return there

    def _filled(self, store: Store, rows: Tensor, wanted: Wanted) -> ImageFeatures:
        """Return features whose large tensors lie in the buffer."""
        sources: dict[str, list[Tensor]] = {}
        lengths = [torch.zeros(1, dtype=torch.int64)]
        runs = list(_runs(store, rows))
        masked = any(features.keep is not None for features, _, _ in runs)
        shards = {id(features): features for features, _, _ in runs}  # a shard has several runs
        parts = {number: region_parts(features, wanted, masked) for number, features in shards.items()}
        for features, first, stop in runs:
            regions = features.regions
            assert regions is not None
            offsets = regions.host_offsets
            lengths.append(offsets[first + 1 : stop + 1] - offsets[first:stop])
            for name, tensor in parts[id(features)].items():
                edges = regions.factor_offsets if name == "factor" else offsets
                sources.setdefault(name, []).append(tensor[int(edges[first]) : int(edges[stop])])
        packed = self._packed(sources)
        ragged = Ragged(packed["values"], torch.cat(lengths).cumsum(0), packed.get("scales"))
        return ImageFeatures(
            tuple(store.ids[row] for row in rows.tolist()),
            torch.empty(0, store.manifest.dim),
            regions=ragged,
            keep=packed.get("keep"),
            factor=packed.get("factor"),
        )

    def _packed(self, sources: dict[str, list[Tensor]]) -> dict[str, Tensor]:
        shapes = {name: (sum(map(len, parts)), *parts[0].shape[1:]) for name, parts in sources.items()}
        sizes = {name: prod(shape) * sources[name][0].dtype.itemsize for name, shape in shapes.items()}
        needed = sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes.values())
        if len(self._buffer) < needed:
            self._buffer = torch.empty(0, dtype=torch.uint8)  # not both at once
            self._buffer = torch.empty(needed, dtype=torch.uint8, pin_memory=self._stream is not None)
        packed, start = {}, 0
        for name, parts in sources.items():
            there = self._buffer[start : start + sizes[name]].view(parts[0].dtype).view(shapes[name])
            packed[name] = torch.cat(parts, out=there)
            start += -(-sizes[name] // ALIGNMENT) * ALIGNMENT
        return packed

    def _sent(self, features: ImageFeatures) -> ImageFeatures:
        regions = features.regions
        assert regions is not None
        if features.factor is not None:
            _ = regions.factor_offsets  # made here, so that it travels too
        return ImageFeatures(
            features.ids,
            features.global_features,
            regions=regions.to(device=self._device, non_blocking=True),
            keep=None if features.keep is None else features.keep.to(self._device, non_blocking=True),
            factor=None if features.factor is None else features.factor.to(self._device, non_blocking=True),
        )


def _runs(store: Store, rows: Tensor) -> Iterator[tuple[ImageFeatures, int, int]]:
    """Yield a shard's features, and where in it a run of neighbouring rows begins and ends."""
    numbers = torch.searchsorted(store.starts, rows, right=True) - 1
    breaks = ((rows[1:] != rows[:-1] + 1) | (numbers[1:] != numbers[:-1])).nonzero().flatten() + 1
    edges = [0, *breaks.tolist(), len(rows)]
    shards = {number: store.shard_features(number, global_features=False) for number in numbers.unique().tolist()}
    for first, stop in pairwise(edges):
        number = int(numbers[first])
        begin = int(rows[first] - store.starts[number])
        yield shards[number], begin, begin + stop - first

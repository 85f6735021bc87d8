"""What of a store a GPU keeps: the vectors of the first stage, and the regions of the first shards that fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from heritage_align.memory import amount_in_bytes
from heritage_align.ops import Ragged
from heritage_align.search.scoring import Wanted
from heritage_align.search.staging import Staging, to_device
from heritage_align.store import Store
from heritage_align.types import ImageFeatures

Progress = Callable[[int, int], object]


def memory_for(amount: float | str, device: torch.device) -> int:
    """Return the bytes that a store may take on a device; 0 on the CPU, where it stays in its files."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return min(free, amount_in_bytes(amount, free))


class ResidentVectors:
    """The vectors of the first stage, on the pipeline's device where they fit the budget.

    Args:
        store: whose vectors.
        device: where.
        budget: bytes that they may take.
        names: ``global``, ``folded`` or both.

    Attributes:
        nbytes: what they take.
    """

    def __init__(self, store: Store, device: torch.device, budget: int, names: Sequence[str]) -> None:
        self._store = store
        self._resident: dict[str, Tensor] = {}
        self.nbytes = 0
        if not budget or not len(store):
            return
        for name in names:
            blocks = store.blocks(name)
            size = len(store) * store.manifest.dim * blocks[0].dtype.itemsize
            if self.nbytes + size > budget:
                continue
            try:
                vectors = torch.empty(len(store), store.manifest.dim, dtype=blocks[0].dtype, device=device)
            except torch.OutOfMemoryError:  # somebody else took what was free: the index reads the files
                continue
            staging, start = Staging(device), 0
            for block in blocks:
                staging.copy(block, vectors[start : start + len(block)])
                start += len(block)
            staging.finish()
            self._resident[name] = vectors
            self.nbytes += size

    def blocks(self, name: str) -> Sequence[Tensor]:
        """Return the vectors as one block on the device, or as the mapped blocks of the store."""
        self._store.check()
        found = self._resident.get(name)
        return self._store.blocks(name) if found is None else [found]

    def first(self, name: str, rows: int, device: torch.device) -> Tensor:
        """Return the first rows' vectors ``(rows, dim)`` on a device, without a copy if they are resident."""
        found = self._resident.get(name)
        return self._store.vectors(name, torch.arange(rows)).to(device) if found is None else found[:rows]

    def at(self, name: str, rows: Tensor, there: Tensor) -> Tensor:
        """Return the vectors ``(n_rows, dim)`` on the device, of rows that are given on the host and `there`."""
        found = self._resident.get(name)
        return to_device(self._store.vectors(name, rows), there.device) if found is None else found[there]

    def clear(self) -> None:
        """Let them go; they are read from the files from now on."""
        self._resident.clear()
        self.nbytes = 0


def shards_that_fit(store: Store, budget: int, wanted: Wanted) -> int:
    """Return how many shards, from the first, have regions that fit a budget of bytes."""
    total = 0
    for number in range(len(store.starts) - 1):
        parts = region_parts(store.shard_features(number, global_features=False), wanted)
        total += sum(tensor.nbytes for tensor in parts.values())
        if total > budget:
            return number
    return len(store.starts) - 1


def upload_regions(
    store: Store, shards: int, device: torch.device, vectors: ResidentVectors, wanted: Wanted, progress: Progress | None
) -> ImageFeatures:
    """Return the features of the first shards in one piece on the device.

    Args:
        store: with regions.
        shards: how many.
        device: where to.
        vectors: global vectors are taken from there.
        wanted: what the similarity reads.
        progress: called with bytes copied since the last call, and bytes in all.

    Raises:
        torch.OutOfMemoryError: the device has less room than it said.
    """
    numbers = range(shards)
    masked = any(store.shard_features(number, global_features=False).keep is not None for number in numbers)
    sizes: dict[str, int] = {}
    for number in numbers:
        for name, tensor in region_parts(store.shard_features(number, global_features=False), wanted, masked).items():
            sizes[name] = sizes.get(name, 0) + len(tensor)
    first = region_parts(store.shard_features(0, global_features=False), wanted, masked)
    whole = {
        name: torch.empty(size, *first[name].shape[1:], dtype=first[name].dtype, device=device)
        for name, size in sizes.items()
    }
    total = sum(tensor.nbytes for tensor in whole.values())
    staging, offsets, filled = Staging(device), [torch.zeros(1, dtype=torch.int64)], dict.fromkeys(whole, 0)
    for number in numbers:
        features = store.shard_features(number, global_features=False)
        assert features.regions is not None
        offsets.append(features.regions.host_offsets[1:] + offsets[-1][-1])
        done = 0
        for name, tensor in region_parts(features, wanted, masked).items():
            staging.copy(tensor, whole[name][filled[name] : filled[name] + len(tensor)])
            filled[name] += len(tensor)
            done += tensor.nbytes
        if progress is not None:
            progress(done, total)
    staging.finish()
    rows = int(store.starts[shards])
    return ImageFeatures(
        store.ids[:rows],
        vectors.first("global", rows, device)
        if wanted.global_features
        else torch.empty(0, store.manifest.dim, device=device),
        regions=Ragged(whole["values"], torch.cat(offsets), whole.get("scales")),
        keep=whole.get("keep"),
        factor=whole.get("factor"),
    )


def region_parts(features: ImageFeatures, wanted: Wanted, masked: bool = False) -> dict[str, Tensor]:
    """Return what a device is given of a shard's regions, by name; a mask of its own where others have one."""
    assert features.regions is not None
    parts = {"values": features.regions.values}
    if features.regions.scales is not None:
        parts["scales"] = features.regions.scales
    if features.keep is not None:
        parts["keep"] = features.keep
    elif masked:
        parts["keep"] = torch.ones(features.regions.total, dtype=torch.bool)
    if wanted.factors and features.factor is not None:
        parts["factor"] = features.factor
    return parts

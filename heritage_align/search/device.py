"""A store on a GPU: what fits stays there, what does not passes through it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from heritage_align.memory import amount_in_bytes
from heritage_align.ops import Ragged
from heritage_align.pipeline import Pipeline
from heritage_align.planning import needs
from heritage_align.search.staging import Staging
from heritage_align.search.streaming import Streamer
from heritage_align.store import Store
from heritage_align.types import ImageFeatures, TextFeatures

Progress = Callable[[int, int], object]


def memory_for(amount: float | str, device: torch.device) -> int:
    """Return the bytes that a store may take on a device; 0 on the CPU, where it stays in its files."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return amount_in_bytes(amount, free)


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
        if not len(store):
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

    def clear(self) -> None:
        """Let them go; they are read from the files from now on."""
        self._resident.clear()
        self.nbytes = 0


class DeviceScorer:
    """Scores on a GPU, for a similarity that works in place.

    The first shards that fit the budget are uploaded once, as one array of regions; a query's candidates among them are
    scored by one call, and where all shards fit nothing waits for the host. The other candidates pass through the
    device in chunks, each read once for all queries of a batch. Where memory runs out all the same, everything passes
    through, which is said once.

    Args:
        pipeline: its similarity scores.
        store: the features.
        vectors: of the first stage; global vectors that a similarity adds are taken from there.
        budget: bytes that regions may take.
        progress: called with bytes uploaded since the last call, and bytes in all.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        store: Store,
        vectors: ResidentVectors,
        budget: int,
        progress: Progress | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._pipeline, self._store = pipeline, store
        self._device = pipeline.device if device is None else device
        self._wholes = "image.global" in needs(pipeline.config.similarity)
        self._streamer = Streamer(pipeline, store, self._device, wholes=self._wholes)
        self._lock = threading.Lock()
        self._resident: ImageFeatures | None = None
        self._rows = 0
        """Rows of the store, from the first, that are resident."""
        shards = self._fitting(budget)
        if shards:
            try:
                self._resident = self._uploaded(shards, vectors, progress)
                self._rows = len(self._resident)
            except torch.OutOfMemoryError:
                self._give_up()

    @property
    def resident_rows(self) -> int:
        """How many of the store's images the device keeps."""
        return self._rows

    def score(self, texts: TextFeatures, rows: Tensor) -> Tensor:
        """Return ``(n_texts, k)`` on the device; see `CandidateScorer`."""
        resident, count = self._resident, self._rows
        if resident is not None:
            rows = rows.to(self._device, torch.int64)
            try:
                if count == len(self._store):
                    return self._pipeline.score(resident, texts, rows)
                here = self._pipeline.score(resident, texts, torch.where(rows < count, rows, -1))
            except torch.OutOfMemoryError:
                self._give_up()
                count = 0
        host = rows.to("cpu", torch.int64)
        outside = host >= count
        streamed = self._streamer.score(texts, torch.where(outside, host, -1))
        return torch.where(outside.to(self._device), streamed, here) if count else streamed

    def score_all(self, texts: TextFeatures) -> Tensor:
        """Return ``(n_images, n_texts)`` on the CPU; see `CandidateScorer`."""
        resident, count = self._resident, self._rows
        parts = []
        if resident is not None:
            parts.append(self._pipeline.score(resident, texts).float().cpu())
        parts.append(self._streamer.score_all(texts, torch.arange(count, len(self._store))))
        return torch.cat(parts)

    def clear(self) -> None:
        """Let the store go; from now on everything passes through."""
        with self._lock:
            self._resident, self._rows = None, 0

    def _give_up(self) -> None:
        self.clear()
        torch.cuda.empty_cache()
        warnings.warn(
            f"{self._store.path}: {self._device} ran out of memory; the store passes through it from now on. "
            "A smaller runtime.device_memory keeps a part of it there",
            RuntimeWarning,
            stacklevel=3,
        )

    def _fitting(self, budget: int) -> int:
        """Return how many shards, from the first, fit the budget."""
        total = 0
        for number in range(len(self._store.starts) - 1):
            total += sum(tensor.nbytes for tensor in _parts(self._store.shard_features(number, wholes=False)).values())
            if total > budget:
                return number
        return len(self._store.starts) - 1

    def _uploaded(self, shards: int, vectors: ResidentVectors, progress: Progress | None) -> ImageFeatures:
        """Return the features of the first shards in one piece on the device."""
        store, device = self._store, self._device
        numbers = range(shards)
        sizes: dict[str, int] = {}
        masked = any(store.shard_features(number, wholes=False).keep is not None for number in numbers)
        for number in numbers:
            for name, tensor in _parts(store.shard_features(number, wholes=False), masked).items():
                sizes[name] = sizes.get(name, 0) + len(tensor)
        first = _parts(store.shard_features(0, wholes=False), masked)
        whole = {
            name: torch.empty(size, *first[name].shape[1:], dtype=first[name].dtype, device=device)
            for name, size in sizes.items()
        }
        total = sum(tensor.nbytes for tensor in whole.values())
        staging, offsets, filled = Staging(device), [torch.zeros(1, dtype=torch.int64)], dict.fromkeys(whole, 0)
        for number in numbers:
            features = store.shard_features(number, wholes=False)
            assert features.regions is not None
            offsets.append(features.regions.host_offsets[1:] + offsets[-1][-1])
            done = 0
            for name, tensor in _parts(features, masked).items():
                staging.copy(tensor, whole[name][filled[name] : filled[name] + len(tensor)])
                filled[name] += len(tensor)
                done += tensor.nbytes
            if progress is not None:
                progress(done, total)
        staging.finish()
        rows = int(store.starts[shards])
        globals_there = vectors.blocks("global")
        return ImageFeatures(
            store.ids[:rows],
            globals_there[0][:rows] if len(globals_there) == 1 else self._wholes_of(rows),
            regions=Ragged(whole["values"], torch.cat(offsets), whole.get("scales")),
            keep=whole.get("keep"),
            factor=whole.get("factor"),
        )

    def _wholes_of(self, rows: int) -> Tensor:
        if not self._wholes:
            return torch.empty(0, self._store.manifest.dim, device=self._device)
        return self._store.vectors("global", torch.arange(rows)).to(self._device)


def _parts(features: ImageFeatures, masked: bool = False) -> dict[str, Tensor]:
    """Return what is uploaded of a shard, by name; a mask of its own where others have one."""
    assert features.regions is not None
    parts = {"values": features.regions.values}
    if features.regions.scales is not None:
        parts["scales"] = features.regions.scales
    if features.keep is not None:
        parts["keep"] = features.keep
    elif masked:
        parts["keep"] = torch.ones(features.regions.total, dtype=torch.bool)
    if features.factor is not None:
        parts["factor"] = features.factor
    return parts

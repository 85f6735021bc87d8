"""Scores on a GPU: what fits of a store stays there, what does not passes through it."""

from __future__ import annotations

import warnings
from contextlib import suppress

import torch
from torch import Tensor

from heritage_align.errors import Note
from heritage_align.pipeline import Pipeline
from heritage_align.search.resident import Progress, ResidentVectors, shards_that_fit, upload_regions
from heritage_align.search.scoring import wanted_by
from heritage_align.search.staging import to_device
from heritage_align.search.streaming import Streamer
from heritage_align.store import Store
from heritage_align.types import ImageFeatures, TextFeatures


class DeviceScorer:
    """Scores on a GPU, for a similarity that works in place.

    The first shards that fit the budget are uploaded once, as one array of regions; a query's candidates among them are
    scored by one call, and where all shards fit nothing waits for the host. The other candidates pass through the
    device in chunks, each read once for all queries of a batch. Where memory runs out all the same, what was kept is
    let go and everything passes through, which is said once.

    Args:
        pipeline: its similarity scores.
        store: the features.
        vectors: of the first stage; global vectors that a similarity adds are taken from there.
        budget: bytes that regions may take.
        progress: called with bytes uploaded since the last call, and bytes in all.
        device: where; the pipeline's by default.
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
        wanted = wanted_by(pipeline, store)
        self._streamer = Streamer(pipeline, store, vectors, self._device, wanted)
        self._kept: ImageFeatures | None = None
        """Features of the first rows of the store. Read once a call: another thread may let them go."""
        shards = shards_that_fit(store, budget, wanted)
        if not shards:
            return
        with suppress(torch.OutOfMemoryError):
            self._kept = upload_regions(store, shards, self._device, vectors, wanted, progress)
        if self._kept is None:
            self._give_up()

    @property
    def kept(self) -> ImageFeatures | None:
        """Features of the store's first images on the device, or None; another thread may let them go."""
        return self._kept

    @property
    def resident_rows(self) -> int:
        """How many of the store's images the device keeps."""
        kept = self._kept
        return 0 if kept is None else len(kept)

    def score(self, texts: TextFeatures, rows: Tensor) -> Tensor:
        """Return ``(n_texts, k)`` on the device; see `CandidateScorer`."""
        count = self.resident_rows
        if count == len(self._store):
            scores = self._of_kept(texts, rows.to(self._device, torch.int64))
            return self._streamer.score(texts, rows.to("cpu", torch.int64)) if scores is None else scores[0]
        host = rows.to("cpu", torch.int64)  # before any kernel is queued, for which this would wait
        if not count:
            return self._streamer.score(texts, host)
        here = self._of_kept(texts, to_device(torch.where(host < count, host, -1), self._device))
        if here is None or here[1] != count:
            return self._streamer.score(texts, host)
        streamed = self._streamer.score(texts, torch.where(host >= count, host, -1))
        return torch.where(to_device(host >= count, self._device), streamed, here[0])

    def score_all(self, texts: TextFeatures) -> Tensor:
        """Return ``(n_images, n_texts)`` on the CPU; see `CandidateScorer`."""
        here = self._of_kept(texts, None)
        parts, count = ([here[0].float().cpu()], here[1]) if here is not None else ([], 0)
        return torch.cat([*parts, self._streamer.score_all(texts, torch.arange(count, len(self._store)))])

    def clear(self) -> None:
        """Let the store go; from now on everything passes through."""
        self._kept = None
        self._streamer.clear()

    def _of_kept(self, texts: TextFeatures, rows: Tensor | None) -> tuple[Tensor, int] | None:
        """Score what is kept; returns the scores and how many images they are of, or None where nothing is kept."""
        kept = self._kept
        if kept is None:
            return None
        with suppress(torch.OutOfMemoryError):
            return self._pipeline.score(kept, texts, rows), len(kept)
        del kept  # or the memory would not be free that is given back
        self._give_up()
        return None

    def _give_up(self) -> None:
        self.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        warnings.warn(
            f"{self._store.path}: {self._device} ran out of memory; the store passes through it from now on. "
            "A smaller runtime.device_memory keeps a part of it there",
            Note,
            stacklevel=3,
        )

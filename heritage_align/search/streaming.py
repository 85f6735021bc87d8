"""Candidates that do not fit on a GPU pass through it in chunks, copied while the chunk before is scored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from heritage_align.pipeline import Pipeline
from heritage_align.search.resident import ResidentVectors
from heritage_align.search.scoring import Wanted, asked_rows, chunks_of, places_in
from heritage_align.search.slots import Slot
from heritage_align.search.staging import to_device
from heritage_align.store import Store
from heritage_align.types import ImageFeatures, TextFeatures

CHUNK_BYTES = 256 * 2**20
"""Regions of one chunk; two are in pinned memory, and up to three on the device. A chunk costs 1.2 ms beside its
reading and its copy, which take 9 and 6 ms (H100, 16 cores), so that smaller ones are slower although more of them
overlap: 300 MB for 64 queries took 19 ms in two chunks, 26 in eight, and with a thread that reads ahead 22 in four and
53 in 24."""
LEAST_BYTES = 2**20
"""A chunk that is too large for the device even so is reported instead of halved."""


class Streamer:
    """Scores rows of a store on a device that does not hold them: a chunk is read once for all queries of a call.

    One call at a time: the chunks of two would only wait for each other on the way to the device.
    """

    def __init__(
        self, pipeline: Pipeline, store: Store, vectors: ResidentVectors, device: torch.device, wanted: Wanted
    ) -> None:
        self._pipeline, self._store, self._vectors = pipeline, store, vectors
        self._device, self._wanted = device, wanted
        self._chunk_bytes = CHUNK_BYTES
        self._slots: list[Slot] = []
        self._lock = threading.Lock()

    def score(self, texts: TextFeatures, rows: Tensor) -> Tensor:
        """Return ``(n_texts, k)`` on the device, of rows on the host; -1 scores -inf.

        Raises:
            torch.OutOfMemoryError: not even a chunk of `LEAST_BYTES` fits on the device.
        """

        def scored() -> Tensor:
            scores = torch.full(rows.shape, -torch.inf, device=self._device)
            there = to_device(rows, self._device)
            for chunk, images in self._chunks(needed):
                place = places_in(chunk, there)
                scores = torch.where(place >= 0, self._pipeline.score(images, texts, place).float(), scores)
            return scores

        needed = asked_rows(rows, len(self._store))
        return self._in_smaller_chunks(scored)

    def score_all(self, texts: TextFeatures, rows: Tensor) -> Tensor:
        """Return ``(n_rows, n_texts)`` on the CPU, of ascending rows; raises as `score`."""

        def scored() -> Tensor:
            parts: list[Tensor] = []
            for _, images in self._chunks(rows):
                part = self._pipeline.score(images, texts).float()
                # The chunk before this one is fetched while this one is scored, so that the host waits for neither.
                parts[-1:] = [*(before.cpu() for before in parts[-1:]), part]
            return torch.cat([part.cpu() for part in parts]) if parts else torch.empty(0, len(texts))

        return self._in_smaller_chunks(scored)

    def clear(self) -> None:
        """Give the pinned memory back."""
        with self._lock:
            self._slots.clear()

    def _in_smaller_chunks(self, scored: Callable[[], Tensor]) -> Tensor:
        with self._lock:
            while True:
                try:
                    return scored()
                except torch.OutOfMemoryError:
                    if self._chunk_bytes // 2 < LEAST_BYTES:
                        raise
                    self._chunk_bytes //= 2

    def _chunks(self, rows: Tensor) -> Iterator[tuple[Tensor, ImageFeatures]]:
        """Yield ascending rows and their features, both on the device.

        What the caller does with a chunk on the current stream runs while the next one is read and copied.
        """
        if not self._slots:
            self._slots = [Slot(self._device) for _ in range(2)]
        for number, chunk in enumerate(chunks_of(rows, self._store.region_bytes(rows), self._chunk_bytes)):
            images, there = (
                self._slots[number % 2].load(self._store, chunk, self._wanted),
                to_device(chunk, self._device),
            )
            if self._wanted.global_features:
                images.global_features = self._vectors.at("global", chunk, there)
            yield there, images

"""Candidates that do not fit on a GPU pass through it in chunks, copied while the chunk before is scored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from heritage_align.pipeline import Pipeline
from heritage_align.search.scoring import chunks_of, places_in
from heritage_align.search.slots import Slot, to_device
from heritage_align.store import Store
from heritage_align.types import ImageFeatures, TextFeatures

CHUNK_BYTES = 256 * 2**20
"""Regions of one chunk; two are in pinned memory, and up to three on the device. Their copy takes 5 ms at 50 GB/s,
beside which the 0.1 ms of calls that a chunk takes do not show."""
LEAST_BYTES = 2**20
"""A chunk that is too large for the device even so is reported instead of halved."""


class Streamer:
    """Scores rows of a store on a device that does not hold them: a chunk is read once for all queries of a call.

    One call at a time: the chunks of two would only wait for each other on the way to the device.
    """

    def __init__(self, pipeline: Pipeline, store: Store, device: torch.device, *, wholes: bool) -> None:
        self._pipeline, self._store, self._device, self._wholes = pipeline, store, device, wholes
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
            for chunk, images in self._chunks(needed):
                place = to_device(places_in(chunk, rows), self._device)
                scores = torch.where(place >= 0, self._pipeline.score(images, texts, place).float(), scores)
            return scores

        needed = rows[rows >= 0].unique()
        return self._in_smaller_chunks(scored)

    def score_all(self, texts: TextFeatures, rows: Tensor) -> Tensor:
        """Return ``(n_rows, n_texts)`` on the CPU, of ascending rows; raises as `score`."""

        def scored() -> Tensor:
            parts = [self._pipeline.score(images, texts).float().cpu() for _, images in self._chunks(rows)]
            return torch.cat(parts) if parts else torch.empty(0, len(texts))

        return self._in_smaller_chunks(scored)

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
        """Yield ascending rows and their features on the device.

        What the caller does with a chunk on the current stream runs while the next one is read and copied.
        """
        if not self._slots:
            self._slots = [Slot(self._device) for _ in range(2)]
        for number, chunk in enumerate(chunks_of(self._store, rows, self._chunk_bytes)):
            yield chunk, self._slots[number % 2].load(self._store, chunk, wholes=self._wholes)

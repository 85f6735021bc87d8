"""Pictures and captions as tensors; threads prepare the next batches while one is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align_plugins.cn_clip.preprocess import Characters, prepare_texts
from heritage_align_plugins.contrastive.pairs import Rows

Prepare = Callable[[Image], Tensor]
LoadPicture = Callable[[int, int], Image]
"""Decodes the picture of a row, as it is shown in an epoch."""

_AHEAD = 2  # batches that are prepared beside the one that is asked for


class Tokens:
    """Captions or phrases as tokens, each tokenised once (cn_clip's tokeniser takes 0.2 ms for one).

    Args:
        texts: the captions or phrases.
        context_length: tokens of a text with [CLS] and [SEP]; what is beyond is cut off.
        characters: makes a text of the characters that the model reads.
    """

    def __init__(self, texts: Sequence[str], context_length: int, characters: Characters) -> None:
        self._texts, self._length, self._characters = texts, context_length, characters
        self._tokens = torch.zeros(len(texts), context_length, dtype=torch.int32)

    def __len__(self) -> int:
        return len(self._texts)

    def __call__(self, rows: Sequence[int]) -> Tensor:
        """Return ``(n, context_length)`` int64, 0 for padding."""
        new = [row for row in rows if not self._tokens[row, 0]]
        if new:
            self._tokens[new] = prepare_texts([self._texts[row] for row in new], self._length, self._characters).int()
        return self._tokens[list(rows)].long()


@dataclass(frozen=True)
class Batch:
    """This process's share of a batch.

    Attributes:
        number: of the batch in its epoch.
        pictures: rows of `Pairs.image_ids`.
        texts: rows of `Pairs.texts`, parallel to `pictures`; none where pictures alone are encoded.
    """

    number: int
    pictures: tuple[int, ...]
    texts: tuple[int, ...]


def shares(batches: Sequence[Rows], rank: int, world: int) -> list[Batch]:
    """Return one process's part of every batch: the parts of all processes in the order of ranks are the batch."""
    found = []
    for number, batch in enumerate(batches):
        part = len(batch) // world
        own = batch[rank * part : (rank + 1) * part]
        found.append(Batch(number, tuple(own[:, 0].tolist()), tuple(own[:, 1].tolist())))
    return found


class Feeder:
    """Prepares pictures in threads, a few batches ahead of the one that is asked for.

    Args:
        load: decodes a picture.
        prepare: for every encoder that looks at the pictures its `prepare`.
        workers: threads.
    """

    def __init__(self, load: LoadPicture, prepare: Sequence[Prepare], workers: int) -> None:
        self._load, self._prepare = load, tuple(prepare)
        self._pool = ThreadPoolExecutor(max(1, workers))
        self._epoch, self._batches = 0, list[Batch]()
        self._pending: dict[int, list[Future[tuple[Tensor, ...]]]] = {}

    def begin(self, epoch: int, batches: Sequence[Batch]) -> None:
        """Set the batches that will be asked for, from any of them on."""
        self._cancel()
        self._epoch, self._batches = epoch, list(batches)

    def take(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return for every encoder ``(n, 3, side, side)``; raises what loading a picture raised (ImageError)."""
        for ahead in self._batches[batch.number : batch.number + 1 + _AHEAD]:
            if ahead.number not in self._pending:
                jobs = [self._pool.submit(self._prepared, row, self._epoch) for row in ahead.pictures]
                self._pending[ahead.number] = jobs
        prepared = [job.result() for job in self._pending.pop(batch.number)]
        return tuple(torch.stack(pixels) for pixels in zip(*prepared))

    def close(self) -> None:
        """Stop the threads; what they have not begun is dropped."""
        self._cancel()
        self._pool.shutdown(wait=True)

    def _prepared(self, row: int, epoch: int) -> tuple[Tensor, ...]:
        image = self._load(row, epoch)
        return tuple(prepare(image) for prepare in self._prepare)

    def _cancel(self) -> None:
        for jobs in self._pending.values():
            for job in jobs:
                job.cancel()
        self._pending.clear()

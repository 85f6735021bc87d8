"""Which texts of a batch are right for which of its pictures, and which are held against them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from heritage_align.training import distributed
from heritage_align_plugins.contrastive.feeding import Batch
from heritage_align_plugins.contrastive.pairs import Pairs


class Relations:
    """Looks up the relations between the pictures and texts of a batch.

    Args:
        pairs: the training data.
        positives: ``"pair"``: a picture's own text in the batch; ``"known"``: every text there that belongs to it.
        negatives: ``"batch"``: all; ``"source"``: texts of pictures of the same part of a union.
        device: of the results.
    """

    def __init__(
        self, pairs: Pairs, positives: Literal["pair", "known"], negatives: Literal["batch", "source"],
        device: torch.device,
    ) -> None:  # fmt: skip
        self._device = device
        self._captions = pairs.captions if positives == "known" else None
        self._sources = torch.tensor(pairs.sources, dtype=torch.int64) if negatives == "source" else None

    def of(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """Return what `info_nce` takes as `positive` and `compared` for the batch of all processes.

        Returns:
            Two ``(n, n)`` bool tensors, pictures by texts; None for one that is what CLIP has.
        """
        if self._captions is None and self._sources is None:
            return None, None
        own = torch.tensor([batch.pictures, batch.texts], dtype=torch.int64, device=self._device).T
        pictures, texts = distributed.gather(own).cpu().T
        positive = compared = None
        if self._captions is not None:
            places: dict[int, list[int]] = {}
            for place, text in enumerate(texts.tolist()):
                places.setdefault(text, []).append(place)
            known = [
                (row, place)
                for row, picture in enumerate(pictures.tolist())
                for text in self._captions[picture]
                for place in places.get(text, ())
            ]
            positive = torch.zeros(len(pictures), len(texts), dtype=torch.bool)
            positive[tuple(torch.tensor(known).T)] = True
            positive = positive.to(self._device)
        if self._sources is not None:
            source = self._sources[pictures]
            compared = (source[:, None] == source[None]).to(self._device)
            if positive is not None:
                compared |= positive
        return positive, compared

"""Training pairs as tensors, and the batches of an epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from heritage_align.data import CaptionPair
from heritage_align.training import distributed
from heritage_align_plugins.cl2cm.vocabulary import Vocabulary


@dataclass(frozen=True)
class Pairs:
    """Source captions with their translations.

    Attributes:
        source: ``(n_pairs, length)`` int64 tokens, 0 for padding.
        target: the same of the translations.
        picture: ``(n_pairs,)`` int64 number of the picture of each pair.
    """

    source: Tensor
    target: Tensor
    picture: Tensor

    @classmethod
    def of(
        cls, pairs: Sequence[CaptionPair], numbers: Mapping[str, int], vocabulary: Vocabulary, length: int, device: str
    ) -> Pairs:
        """Turn captions into tokens, at most `length` each; `numbers` is image id -> number of the picture."""
        source, target = (
            vocabulary.encode([item.text for item in items], length).to(device)
            for items in ([pair.source for pair in pairs], [pair.target for pair in pairs])
        )
        picture = torch.tensor([numbers[pair.image_id] for pair in pairs], dtype=torch.int64, device=device)
        return cls(source, target, picture)

    def __len__(self) -> int:
        return len(self.picture)

    def joined(self, other: Pairs) -> Pairs:
        """Return these pairs and then the others, padded to the longest."""
        source, target = (
            torch.cat([pad(one, (0, width - one.shape[1])) for one in both])
            for both in ((self.source, other.source), (self.target, other.target))
            for width in [max(one.shape[1] for one in both)]
        )
        return Pairs(source, target, torch.cat([self.picture, other.picture]))


def trimmed(numbers: Tensor) -> Tensor:
    """Drop the columns in which every text is padding."""
    return numbers[:, : int((numbers != 0).sum(1).max())]


def drawn_seed(seed: int, what: str) -> int:
    """Return the seed of something that all processes draw alike, for example ``"epoch 3"``."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{what}".encode()).digest()[:8], "big") >> 1  # torch wants 63 bits


def epoch_batches(picture: Tensor, batch_size: int, seed: int) -> list[Tensor]:
    """Return this process's share of an epoch's batches: every picture once, with one of its pairs.

    So no picture is a negative of itself. A last batch that is not full is left out, unless it is the only one.

    Args:
        picture: ``(n_pairs,)`` the picture of each pair.
        batch_size: over all processes.
        seed: of the order and of the choice of pairs.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(picture), generator=generator)
    seen: dict[int, int] = {}
    for pair, image in zip(shuffled.tolist(), picture[shuffled.to(picture.device)].tolist()):
        seen.setdefault(image, pair)
    chosen = torch.tensor(list(seen.values()), dtype=torch.int64, device=picture.device)
    parts = list(chosen.split(batch_size))
    if len(parts) > 1 and len(parts[-1]) < batch_size:
        parts.pop()
    world = distributed.world_size()
    each = len(parts[0]) // world  # as many rows in every process, which gathering needs
    return [part[distributed.rank() * each :][:each] for part in parts] if each else []

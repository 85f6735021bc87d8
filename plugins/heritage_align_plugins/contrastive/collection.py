"""A data set as encoders in training see it: pictures and texts by their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align.protocols import Dataset
from heritage_align.types import TextItem
from heritage_align_plugins.contrastive.augmentation import augment
from heritage_align_plugins.contrastive.config import AugmentationConfig
from heritage_align_plugins.contrastive.encoding import encode_rows
from heritage_align_plugins.contrastive.feeding import Feeder, Prepare, Tokens


@dataclass(frozen=True)
class Reading:
    """How a collection is read and encoded.

    Attributes:
        workers: threads that decode and prepare pictures.
        block: pictures or texts encoded at once where no gradient is needed.
        device: of the features.
        quiet: no progress bars.
    """

    workers: int
    block: int
    device: torch.device
    quiet: bool


class Collection:
    """Some pictures and texts of a data set.

    Args:
        dataset: loads the pictures.
        image_ids: the pictures, by row.
        texts: the texts, by row.
        context_length: tokens of a text.
        reading: threads, blocks, device.
    """

    def __init__(
        self, dataset: Dataset, image_ids: Sequence[str], texts: Sequence[TextItem], context_length: int,
        reading: Reading,
    ) -> None:  # fmt: skip
        self._dataset, self.image_ids, self.texts = dataset, tuple(image_ids), tuple(texts)
        self.tokens = Tokens(self.texts, context_length)
        self._reading = reading

    def feeder(self, prepare: Sequence[Prepare], changes: AugmentationConfig | None, size: int, seed: int) -> Feeder:
        """Return a feeder of pictures that are changed anew every epoch.

        Args:
            prepare: of the encoders that look at them.
            changes: None leaves them as they are.
            size: side in pixels that changed pictures are cropped to.
            seed: of the changes, with the epoch and the picture's row.
        """

        def changed(row: int, epoch: int) -> Image:
            image = self._load(row, epoch)
            return (
                image if changes is None else augment(image, changes, size, np.random.default_rng((seed, epoch, row)))
            )

        return Feeder(changed, prepare, self._reading.workers)

    def encode_pictures(self, prepare: Prepare, encode: Callable[[Tensor], Tensor], dim: int, label: str) -> Tensor:
        """Encode all pictures as they are; returns ``(n_images, dim)`` fp32."""
        reading = self._reading
        with closing(Feeder(self._load, [prepare], reading.workers)) as feeder:
            return encode_rows(
                len(self.image_ids), dim, reading.block, lambda block: encode(feeder.take(block)[0]), reading.device,
                label=label, quiet=reading.quiet, feeder=feeder,
            )  # fmt: skip

    def encode_texts(self, encode: Callable[[Tensor], Tensor], dim: int, label: str) -> Tensor:
        """Encode all texts; returns ``(n_texts, dim)`` fp32."""
        reading = self._reading
        return encode_rows(
            len(self.texts), dim, reading.block, lambda block: encode(self.tokens(block.pictures)), reading.device,
            label=label, quiet=reading.quiet,
        )  # fmt: skip

    def _load(self, row: int, _epoch: int) -> Image:
        return self._dataset.load_image(self.image_ids[row])

"""A data set as encoders in training see it: pictures and texts by their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor

from heritage_align.plugin import Dataset, TextItem
from heritage_align_plugins.cn_clip.preprocess import Characters
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
        kept_bytes: pictures that are kept in memory, at the size of the encoder's input.
        device: of the features.
        quiet: no progress bars.
    """

    workers: int
    block: int
    kept_bytes: int
    device: torch.device
    quiet: bool


class DatasetView:
    """Some pictures and texts of a data set.

    Args:
        dataset: loads the pictures.
        image_ids: the pictures, by row.
        texts: the texts, by row.
        context_length: tokens of a text.
        characters: makes a text of the characters that the model reads.
        reading: threads, blocks, device.

    Attributes:
        tokens: of the texts.
        sizes: width and height in pixels of the pictures that were loaded, by row.
    """

    def __init__(
        self, dataset: Dataset, image_ids: Sequence[str], texts: Sequence[TextItem], context_length: int,
        characters: Characters, reading: Reading,
    ) -> None:  # fmt: skip
        self.dataset, self.image_ids, self.texts = dataset, tuple(image_ids), tuple(texts)
        self.tokens = Tokens([item.text for item in self.texts], context_length, characters)
        self._reading = reading
        self._kept: dict[int, Image] = {}
        self.sizes: dict[int, tuple[int, int]] = {}

    def feeder(self, prepare: Sequence[Prepare], changes: AugmentationConfig | None, size: int, seed: int) -> Feeder:
        """Return a feeder of pictures that are changed every epoch.

        Args:
            prepare: of the encoders that look at them.
            changes: None leaves them as they are.
            size: side in pixels of the encoder's input.
            seed: of the changes, with the epoch and the picture's row.
        """

        def shown(row: int, epoch: int) -> Image:
            if changes is None:
                return self._small(row, size)
            return augment(self._load(row), changes, size, np.random.default_rng((seed, epoch, row)))

        return Feeder(shown, prepare, self._reading.workers)

    def encode_pictures(
        self, prepare: Prepare, encode: Callable[[Tensor], Tensor], dim: int, label: str, size: int | None = None
    ) -> Tensor:
        """Encode all pictures as they are.

        Args:
            prepare: of the encoder.
            encode: features ``(n, dim)`` of prepared pictures.
            dim: of the features.
            label: of the progress bar.
            size: side in pixels of the encoder's input if `prepare` begins with squeezing a picture to it.

        Returns:
            ``(n_images, dim)`` fp32.
        """
        reading = self._reading

        def shown(row: int, _epoch: int) -> Image:
            return self._load(row) if size is None else self._small(row, size)

        with closing(Feeder(shown, [prepare], reading.workers)) as feeder:
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

    def _small(self, row: int, size: int) -> Image:
        """Return a picture squeezed to ``size x size``; as many as may be are decoded once."""
        image = self._kept.get(row)
        if image is None:
            image = self._load(row).resize((size, size), Resampling.BICUBIC)
            if len(self._kept) * 3 * size * size < self._reading.kept_bytes:
                self._kept[row] = image
        return image

    def _load(self, row: int) -> Image:
        image = self.dataset.load_image(self.image_ids[row])
        self.sizes[row] = image.size
        return image

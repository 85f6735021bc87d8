"""From pictures to the pixels that an encoder takes: picture by picture on the CPU, or in batches on its device."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import pad

from heritage_align.data.boxes import pixel_box
from heritage_align.data.pixels import DecodedPicture, file_pixels
from heritage_align.encoding.resampling import Resampler
from heritage_align.encoding.sources import ImageSource
from heritage_align.encoding.uploads import Uploads
from heritage_align.errors import ConfigError, Note
from heritage_align.protocols import Encoder, PixelRecipe, RecipeEncoder
from heritage_align.types import Regions

Preprocess = Literal["auto", "exact", "fast"]


class Prepared(NamedTuple):
    """A decoded picture, for proposers and filters, and what its preparation works from."""

    image: Image
    pixels: Tensor


class Preparation(Protocol):
    """How pictures and crops become pixels ``(n, 3, side, side)``."""

    def load(self, source: ImageSource) -> Prepared:
        """Decode a picture; called from several threads. Raises ImageError."""

    def prepared(self, image: Image) -> Prepared:
        """Take a picture that is decoded already."""

    def whole(self, pictures: Sequence[Prepared]) -> Tensor:
        """Return the pixels of whole pictures, at least one."""

    def crops(
        self, pictures: Sequence[Prepared], regions: Sequence[Regions], pool: ThreadPoolExecutor, batch_size: int
    ) -> Iterator[Tensor]:
        """Return the pixels of all regions in their order, in batches; work on the first may begin at once."""

    def settle(self) -> None:
        """Wait until the device has done the batch before; called after each batch of pictures or crops."""


class Exact:
    """Prepares picture by picture in threads, by the encoder's own `prepare`.

    Args:
        encoder: prepares.
        device: the encoder's, where batches are moved to.
    """

    def __init__(self, encoder: Encoder, device: str = "cpu") -> None:
        self._encoder, self._uploads = encoder, Uploads(torch.device(device))

    def load(self, source: ImageSource) -> Prepared:
        """Decode and prepare a picture."""
        return self.prepared(source.load())

    def prepared(self, image: Image) -> Prepared:
        """Prepare a picture."""
        return Prepared(image, self._encoder.prepare(image))

    def whole(self, pictures: Sequence[Prepared]) -> Tensor:
        """Stack what is prepared."""
        return self._uploads.stacked([picture.pixels for picture in pictures])

    def crops(
        self, pictures: Sequence[Prepared], regions: Sequence[Regions], pool: ThreadPoolExecutor, batch_size: int
    ) -> Iterator[Tensor]:
        """Prepare crops in threads, a batch ahead of the encoder; no more than two are alive."""

        def prepared(job: tuple[Image, Sequence[float]]) -> Tensor:
            image, box = job
            return self._encoder.prepare(image.crop(pixel_box(box)))

        jobs = ((picture.image, box) for picture, found in zip(pictures, regions) for box in found.boxes.tolist())
        ahead: deque[list[Future[Tensor]]] = deque()

        def begin() -> None:
            if batch := list(islice(jobs, batch_size)):
                ahead.append([pool.submit(prepared, job) for job in batch])

        def batches() -> Iterator[Tensor]:
            while ahead:
                yield self._uploads.stacked([future.result() for future in ahead.popleft()])
                begin()

        begin()
        begin()
        return batches()

    def settle(self) -> None:
        """Wait until the device has done the batch before."""
        self._uploads.settle()


class Fast:
    """Decodes in threads; resizes, crops and normalises in batches on the device, by the encoder's recipe.

    Pixels before normalisation are those of `Exact` for an encoder that prepares with Pillow, but for single levels at
    ties (`resampling`).

    Args:
        recipe: the encoder's.
        device: the encoder's.
    """

    def __init__(self, recipe: PixelRecipe, device: str = "cpu") -> None:
        self._uploads = Uploads(torch.device(device))
        self._resample = Resampler(recipe, torch.device(device))

    def load(self, source: ImageSource) -> Prepared:
        """Decode a picture; Pillow's form of it is built only if a proposer or a filter looks at it."""
        file = source.file() if source.file is not None else None
        if file is None:
            return self.prepared(source.load())
        pixels = self._uploads.pinned(file_pixels(file))
        return Prepared(DecodedPicture(pixels.numpy()), pixels)

    def prepared(self, image: Image) -> Prepared:
        """Take the pixels of a picture."""
        return Prepared(image, self._uploads.pinned(np.array(image if image.mode == "RGB" else image.convert("RGB"))))

    def whole(self, pictures: Sequence[Prepared]) -> Tensor:
        """Prepare whole pictures."""
        return self._resample(self._uploads.moved(picture.pixels) for picture in pictures)

    def crops(
        self, pictures: Sequence[Prepared], regions: Sequence[Regions], pool: ThreadPoolExecutor, batch_size: int
    ) -> Iterator[Tensor]:
        """Cut crops out of the pictures on the device; each picture is moved there once more, not kept."""
        windows = self._windows(pictures, regions)
        while batch := list(islice(windows, batch_size)):
            yield self._resample(batch)

    def settle(self) -> None:
        """Wait until the device has done the batch before."""
        self._uploads.settle()

    def _windows(self, pictures: Sequence[Prepared], regions: Sequence[Regions]) -> Iterator[Tensor]:
        for picture, found in zip(pictures, regions):
            if len(found):
                pixels = self._uploads.moved(picture.pixels)
                yield from (_window(pixels, pixel_box(box)) for box in found.boxes.tolist())


def _window(pixels: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Return a part of ``(height, width, 3)``; black where it is outside, as in Pillow's crop."""
    left, top, right, bottom = box
    height, width = pixels.shape[:2]
    inside = pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return inside
    across = min(max(-left, 0), right - left), max(right - max(left, width), 0)
    down = min(max(-top, 0), bottom - top), max(bottom - max(top, height), 0)
    return pad(inside, (0, 0, *across, *down))


def preparation_for(encoder: Encoder, preprocess: Preprocess, device: str, *, pixels: bool = True) -> Preparation:
    """Choose how pictures are prepared.

    Args:
        encoder: of the pictures.
        preprocess: ``runtime.preprocess``; ``"auto"`` is fast on CUDA if the encoder offers a recipe.
        device: the encoder's.
        pixels: False if no pixel is encoded.

    Raises:
        ConfigError: ``"fast"`` and the encoder has no recipe.
    """
    if not pixels:
        return Exact(encoder)
    if preprocess == "exact" or (preprocess == "auto" and torch.device(device).type != "cuda"):
        return Exact(encoder, device)
    recipe = encoder.pixel_recipe() if isinstance(encoder, RecipeEncoder) else None
    if recipe is not None:
        return Fast(recipe, device)
    name = encoder.fingerprint().split("/sha256:")[0]
    fault = f"encoder {name} prepares pictures in a way of its own, picture by picture on the CPU"
    if preprocess == "fast":
        raise ConfigError([f"runtime.preprocess: 'fast', but {fault}; use auto or exact"])
    warnings.warn(f"{fault}, which may keep the GPU waiting", Note, stacklevel=2)
    return Exact(encoder, device)

"""Encode pictures and texts: decoding runs in threads while the model works on the batch before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align.errors import DataError, ImageError
from heritage_align.fragment_groups import grouped
from heritage_align.ops import Ragged, triangular_factor
from heritage_align.protocols import (
    Encoder,
    FeatureEncoder,
    FeatureReader,
    Filter,
    FragmentEncoder,
    Fragmenter,
    FragmentGrouper,
    Proposer,
    WholeEncoder,
)
from heritage_align.types import ImageFeatures, Regions, TextFeatures, TextItem


class ImageSource(NamedTuple):
    """A picture that is still to be decoded: `load` returns an upright RGB image or raises ImageError."""

    id: str
    load: Callable[[], Image]


OnError = Callable[[str, ImageError], None]
Job = tuple[str, "Future[tuple[Image, Tensor] | ImageError]"]


@dataclass(frozen=True)
class ImageStage:
    """The image half of a pipeline: proposer, filters, encoder.

    Attributes:
        encoder: encodes whole pictures, and crops or patches as regions.
        proposer: None for a pipeline without regions.
        filters: applied in their order.
        factors: whether the regions' triangular factors are computed (focal attention uses them).
        features: the proposer gives the regions' features and the encoder projects them; no pixel is encoded.
        pictures: whether pictures have to be opened; without, regions are looked up by id.
    """

    encoder: Encoder
    proposer: Proposer | None = None
    filters: Sequence[Filter] = ()
    factors: bool = False
    features: bool = False
    pictures: bool = True

    def regions(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions] | None:
        """Propose and filter regions; None without a proposer."""
        if self.proposer is None:
            return None
        regions = self.proposer.propose(images, ids)
        for step in self.filters:
            regions = step.apply(images, regions)
        return regions

    def encode(
        self, images: Sequence[Image], ids: Sequence[str], pixels: Tensor, pool: ThreadPoolExecutor, batch_size: int
    ) -> ImageFeatures:
        """Encode pictures whose `pixels` ``(n_images, 3, height, width)`` are prepared already."""
        regions = self.regions(images, ids)
        if regions is None:
            return ImageFeatures(tuple(ids), self.encoder.encode_pixels(pixels).global_features)
        if self.features:
            return self.project(ids, regions, _fractions(images, regions))
        if all(r.grid is not None for r in regions):
            encoded = self.encoder.encode_pixels(pixels, patches=True)
            assert encoded.patches is not None
            n, m, dim = encoded.patches.shape
            for image_id, found in zip(ids, regions):
                if len(found) != m or found.grid != self.encoder.patch_grid:
                    raise ValueError(
                        f"image {image_id!r}: the proposer gives {len(found)} patches in a grid {found.grid}, "
                        f"the encoder {m} in {self.encoder.patch_grid}; boxes and features would not belong together"
                    )
            ragged = Ragged(encoded.patches.reshape(n * m, dim), torch.arange(n + 1) * m)
            whole = encoded.global_features
        else:
            whole = self.encoder.encode_pixels(pixels).global_features
            # Without any crop nothing has told yet on which device the encoder works.
            values = self._crops(images, regions, pool, batch_size).to(whole.device)
            counts = torch.tensor([0, *(len(r) for r in regions)])
            ragged = Ragged(values, counts.cumsum(0))
        return ImageFeatures(
            tuple(ids),
            whole,
            ragged,
            boxes=_fractions(images, regions),
            keep=_keep(regions, ragged.device),
            factor=triangular_factor(ragged) if self.factors else None,
        )

    def prepare(self, image: Image) -> Tensor:
        """Prepare a picture for `encode`; an empty tensor where no pixel is encoded."""
        return torch.empty(0) if self.features else self.encoder.prepare(image)

    def look_up(self, ids: Sequence[str]) -> ImageFeatures:
        """Encode pictures by their ids alone: regions and features come from a file."""
        assert isinstance(self.proposer, FeatureReader)
        regions = self.proposer.lookup(ids)
        boxes = np.concatenate([found.boxes for found in regions]).astype("float32").reshape(-1, 4)
        return self.project(ids, regions, torch.from_numpy(boxes))

    def project(self, ids: Sequence[str], regions: Sequence[Regions], boxes: Tensor) -> ImageFeatures:
        """Encode the features that came with the regions.

        Args:
            ids: of the pictures.
            regions: with their features, one a picture.
            boxes: ``(total_regions, 4)`` as fractions of width and height.

        Raises:
            DataError: names the first picture whose regions came without features.
        """
        assert isinstance(self.encoder, FeatureEncoder)
        rows, whole = [], []
        for image_id, found in zip(ids, regions):
            if found.features is None or found.global_feature is None or len(found.features) != len(found):
                raise DataError(f"image {image_id!r}: its {len(found)} regions came without features")
            rows.append(torch.from_numpy(np.asarray(found.features, dtype=np.float32)))
            whole.append(torch.from_numpy(np.asarray(found.global_feature, dtype=np.float32)))
        counts = torch.tensor([0, *(len(r) for r in regions)])
        raw = Ragged(torch.cat(rows), counts.cumsum(0))
        ragged = Ragged(self.encoder.encode_features(raw.values), raw.offsets)
        if isinstance(self.encoder, WholeEncoder):
            wholes = self.encoder.encode_wholes(torch.stack(whole), raw, boxes)
        else:
            wholes = self.encoder.encode_features(torch.stack(whole))
        return ImageFeatures(
            tuple(ids),
            wholes,
            ragged,
            boxes=boxes,
            keep=_keep(regions, ragged.device),
            factor=triangular_factor(ragged) if self.factors else None,
        )

    def _crops(
        self, images: Sequence[Image], regions: Sequence[Regions], pool: ThreadPoolExecutor, batch_size: int
    ) -> Tensor:
        def prepared(job: tuple[Image, Sequence[float]]) -> Tensor:
            image, box = job
            return self.encoder.prepare(image.crop(pixel_box(box)))

        jobs = ((image, box) for image, found in zip(images, regions) for box in found.boxes.tolist())
        parts = []
        # One batch of crops is prepared while the one before is encoded; no more than two are alive.
        ahead: deque[list[Future[Tensor]]] = deque()
        while True:
            batch = list(islice(jobs, batch_size))
            if batch:
                ahead.append([pool.submit(prepared, job) for job in batch])
            if not ahead:
                break
            if len(ahead) == 2 or not batch:
                stacked = torch.stack([future.result() for future in ahead.popleft()])
                parts.append(self.encoder.encode_pixels(stacked).global_features)
        return torch.cat(parts) if parts else torch.empty(0, self.encoder.dim)


def encode_images(
    stage: ImageStage, sources: Iterable[ImageSource], *, batch_size: int, workers: int, on_error: OnError
) -> Iterator[ImageFeatures]:
    """Yield features batch by batch, in the order of the sources; bad pictures are reported and left out.

    At most two batches of pictures are in memory: one being encoded, one being decoded. Where regions and features
    come from a file no picture is opened.
    """
    if not stage.pictures:
        listed = iter(sources)
        while names := [source.id for source in islice(listed, batch_size)]:
            yield stage.look_up(names)
        return

    def decoded(source: ImageSource) -> tuple[Image, Tensor] | ImageError:
        try:
            image = source.load()
            return image, stage.prepare(image)
        except ImageError as error:
            return error

    def encoded(jobs: list[Job], pool: ThreadPoolExecutor) -> ImageFeatures | None:
        ids, images, pixels = [], [], []
        for image_id, future in jobs:
            result = future.result()
            if isinstance(result, ImageError):
                on_error(image_id, result)
                continue
            ids.append(image_id)
            images.append(result[0])
            pixels.append(result[1])
        return stage.encode(images, ids, torch.stack(pixels), pool, batch_size) if ids else None

    remaining = iter(sources)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="decode") as pool:
        ahead: deque[list[Job]] = deque()
        while True:
            batch = list(islice(remaining, batch_size))
            if batch:
                ahead.append([(source.id, pool.submit(decoded, source)) for source in batch])
            if not ahead:
                return
            if len(ahead) < 2 and batch:
                continue
            # In a function, so that its pictures are freed before the batch after the next is submitted.
            features = encoded(ahead.popleft(), pool)
            if features is not None:
                yield features


def encode_texts(
    encoder: Encoder, fragmenter: Fragmenter | None, items: Sequence[TextItem], *, batch_size: int
) -> TextFeatures:
    """Encode texts whole, and their fragments one by one where there is a fragmenter; groups of them are averaged.

    Raises:
        DataError: names the first text that is blank or not a string.
    """
    for item in items:
        if not isinstance(item.text, str) or not item.text.strip():
            raise DataError(f"text {item.id!r} is empty or not a string: {item.text!r}")
    ids = tuple(item.id for item in items)
    if fragmenter is None:
        return TextFeatures(ids, _encode_strings(encoder, [item.text for item in items], batch_size))
    phrases = tuple(fragmenter.split(item) for item in items)
    if isinstance(encoder, FragmentEncoder):
        features = _encode_together(encoder, items, phrases, batch_size)
    else:
        features = _encode_apart(encoder, items, phrases, batch_size)
    if isinstance(fragmenter, FragmentGrouper):
        groups = [fragmenter.groups(split) for split in phrases]
        if any(len(of_text) < len(split) for of_text, split in zip(groups, phrases)):
            return grouped(features, groups)
    return features


def _encode_apart(
    encoder: Encoder, items: Sequence[TextItem], phrases: tuple[tuple[str, ...], ...], batch_size: int
) -> TextFeatures:
    whole = _encode_strings(encoder, [item.text for item in items], batch_size)
    # The same phrase recurs in many captions of a collection; each is encoded once.
    distinct = list(dict.fromkeys(p for split in phrases for p in split))
    row = {phrase: i for i, phrase in enumerate(distinct)}
    encoded = _encode_strings(encoder, distinct, batch_size)
    picked = torch.tensor([row[p] for split in phrases for p in split], dtype=torch.int64)
    offsets = torch.tensor([0, *(len(split) for split in phrases)]).cumsum(0)
    ids = tuple(item.id for item in items)
    return TextFeatures(ids, whole, Ragged(encoded[picked.to(encoded.device)], offsets), phrases)


def _encode_together(
    encoder: FragmentEncoder, items: Sequence[TextItem], phrases: tuple[tuple[str, ...], ...], batch_size: int
) -> TextFeatures:
    wholes, fragments = [], []
    for start in range(0, len(items), batch_size):
        part = slice(start, start + batch_size)
        encoded = encoder.encode_fragmented([item.text for item in items[part]], phrases[part])
        wholes.append(encoded.global_features)
        fragments.append(encoded.fragments)
    offsets = torch.tensor([0, *(len(split) for split in phrases)]).cumsum(0)
    ids = tuple(item.id for item in items)
    return TextFeatures(ids, torch.cat(wholes), Ragged(torch.cat(fragments), offsets), phrases)


def _encode_strings(encoder: Encoder, texts: Sequence[str], batch_size: int) -> Tensor:
    if not texts:
        return torch.empty(0, encoder.dim)
    return torch.cat([encoder.encode_texts(texts[i : i + batch_size]) for i in range(0, len(texts), batch_size)])


def pixel_box(box: Sequence[float]) -> tuple[int, int, int, int]:
    """Return the whole pixels that a region ``(x0, y0, x1, y1)`` is cropped to, at least one."""
    x0, y0, x1, y1 = box
    left, top = int(x0), int(y0)
    return left, top, max(left + 1, round(x1)), max(top + 1, round(y1))


def _fractions(images: Sequence[Image], regions: Sequence[Regions]) -> Tensor:
    parts = []
    for image, found in zip(images, regions):
        size = torch.tensor([image.width, image.height, image.width, image.height], dtype=torch.float32)
        parts.append(torch.from_numpy(found.boxes.astype("float32")).reshape(-1, 4) / size)
    return torch.cat(parts)


def _keep(regions: Sequence[Regions], device: torch.device) -> Tensor | None:
    if all(r.keep is None for r in regions):
        return None
    rows = [torch.ones(len(r), dtype=torch.bool) if r.keep is None else torch.from_numpy(r.keep) for r in regions]
    return torch.cat(rows).to(device)

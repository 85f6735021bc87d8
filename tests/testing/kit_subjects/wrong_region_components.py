"""Proposers, filters and fragmenters with one fault each."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from kit_subjects.right import Filter, Focal, Fragmenter, Proposer
from PIL import Image

from heritage_align.types import Regions, TextItem


class SkipsEmpty(Proposer):
    def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
        return [found for found, image in zip(super().propose(images, ids), images) if min(image.size) > 1]


class PastTheEdge(Proposer):
    def boxes(self, picture: Image.Image, image_id: str) -> np.ndarray:
        return np.rint(super().boxes(picture, image_id)).astype(np.float32) + np.float32(1)


class WholePixels(Proposer):
    def boxes(self, picture: Image.Image, image_id: str) -> np.ndarray:
        return np.floor(super().boxes(picture, image_id)).astype(np.float32)


class DoubleBoxes(Proposer):
    def boxes(self, picture: Image.Image, image_id: str) -> np.ndarray:
        return super().boxes(picture, image_id).astype(np.float64)


class OneScore(Proposer):
    def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
        return [replace(found, scores=np.ones(1, np.float32)) for found in super().propose(images, ids)]


class SomeGrid(Proposer):
    def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
        return [replace(found, grid=(1, 3)) for found in super().propose(images, ids)]


class GlobalGenerator(Proposer):
    def boxes(self, picture: Image.Image, image_id: str) -> np.ndarray:
        return super().boxes(picture, image_id) * np.float32(random.uniform(0.5, 1))


class PlaceInBatch(Proposer):
    def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
        return super().propose(images, [str(i) for i in range(len(images))])


class ShrinksPictures(Proposer):
    def boxes(self, picture: Image.Image, image_id: str) -> np.ndarray:
        found = super().boxes(picture, image_id)
        picture.thumbnail((16, 16))
        return found


class NeedsOne(Proposer):
    def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
        return [Regions(boxes) for boxes in np.stack([self.boxes(p, i) for p, i in zip(images, ids)])]


class DropsBoxes(Filter):
    def narrowed(self, found: Regions, mask: np.ndarray) -> Regions:
        return Regions(found.boxes[:-1], keep=None if found.keep is None else found.keep[:-1])


class Revives(Filter):
    def narrowed(self, found: Regions, mask: np.ndarray) -> Regions:
        return replace(found, keep=mask if mask.any() else np.ones(len(found), np.bool_))


class MasksEverything(Filter):
    def narrowed(self, found: Regions, mask: np.ndarray) -> Regions:
        return replace(found, keep=mask if found.keep is None else mask & found.keep)


class DividesByNone(Filter):
    def narrowed(self, found: Regions, mask: np.ndarray) -> Regions:
        1 // len(found)
        return super().narrowed(found, mask)


class MasksInPlace(Filter):
    def narrowed(self, found: Regions, mask: np.ndarray) -> Regions:
        kept = super().narrowed(found, mask)
        if found.keep is not None:
            found.keep[:] = kept.keep
        return kept


class ComparesToBatch(Filter):
    def apply(self, images: Sequence[Image.Image], regions: Sequence[Regions]) -> list[Regions]:
        mean = np.mean([np.asarray(image).mean() for image in images]) if images else 0
        masks = [np.full(len(r), np.asarray(i).mean() > mean) for i, r in zip(images, regions)]
        for mask in masks:
            mask[:1] = True
        return [self.narrowed(found, mask) for found, mask in zip(regions, masks)]


class FilterNeedsOne(Filter):
    def apply(self, images: Sequence[Image.Image], regions: Sequence[Regions]) -> list[Regions]:
        images[0]
        return super().apply(images, regions)


class UndeclaredAttention(Filter):
    attention: Mapping[str, Any] = {"focal": "prob"}


class SilentFocal(Focal):
    attention: Mapping[str, Any] = {}


class FindsNothing(Fragmenter):
    def split(self, item: TextItem) -> tuple[str, ...]:
        return item.phrases


class GivesBlanks(Fragmenter):
    def split(self, item: TextItem) -> tuple[str, ...]:
        return (*item.text.replace("，", ",").split(","), " ")


class GivesList(Fragmenter):
    def split(self, item: TextItem) -> tuple[str, ...]:
        return list(super().split(item))  # type: ignore[return-value]


class Shuffles(Fragmenter):
    def split(self, item: TextItem) -> tuple[str, ...]:
        return tuple(random.sample(super().split(item), len(super().split(item))))

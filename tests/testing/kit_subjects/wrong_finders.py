"""Rerankers that compare details, with one fault each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from kit_subjects.right import Finder
from PIL.Image import Image

from heritage_align.types import Match


class OutsideBox(Finder):
    def match(self, detail: Image, image: Image) -> Match:
        return super().match(detail, image)._replace(box=(0.0, 0.0, 1.0, image.height + 1.0))


class NoNumber(Finder):
    def match(self, detail: Image, image: Image) -> Match:
        return super().match(detail, image)._replace(score=float("nan"))


class BestAlone(Finder):
    def compare(self, detail: Image, images: Sequence[Image]) -> list[Match]:
        return [max(super().compare(detail, images))] if images else []


class Ranks(Finder):
    def compare(self, detail: Image, images: Sequence[Image]) -> list[Match]:
        return [match._replace(score=float(place)) for place, match in enumerate(super().compare(detail, images))]


class DrawsLots(Finder):
    def match(self, detail: Image, image: Image) -> Match:
        found = super().match(detail, image)
        return found._replace(score=found.score + float(np.random.rand()))


class DistanceOfPictures(Finder):
    def match(self, detail: Image, image: Image) -> Match:
        found = super().match(detail, image)
        return found._replace(score=255 - found.score)


class NeedsPictures(Finder):
    def compare(self, detail: Image, images: Sequence[Image]) -> list[Match]:
        found = super().compare(detail, images)
        return [match._replace(score=float(score)) for match, score in zip(found, np.stack([m.score for m in found]))]


class ShrinksDetail(Finder):
    def match(self, detail: Image, image: Image) -> Match:
        found = super().match(detail, image)
        detail.thumbnail((4, 4))
        return found

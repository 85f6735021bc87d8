"""Rerankers with one fault each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from kit_subjects.right import Reranker
from PIL.Image import Image
from torch import Tensor

Pairs = Sequence[tuple[Image, str]]


class HalfRatings(Reranker):
    def rate(self, pairs: Pairs) -> Tensor:
        return super().rate(pairs).half()


class CentresRatings(Reranker):
    def rate(self, pairs: Pairs) -> Tensor:
        rated = super().rate(pairs)
        return rated - rated.mean() if len(rated) else rated


class Samples(Reranker):
    def rate(self, pairs: Pairs) -> Tensor:
        return super().rate(pairs) + torch.randn(len(pairs))


class NeverReads(Reranker):
    def rating(self, picture: Image, text: str) -> float:
        return super().rating(picture, "x")


class NeedsPairs(Reranker):
    def rate(self, pairs: Pairs) -> Tensor:
        return torch.stack(list(super().rate(pairs)))


class TakesBlankTexts(Reranker):
    def rate(self, pairs: Pairs) -> Tensor:
        return super().rate([(picture, text.strip() or "x") for picture, text in pairs])


class ShrinksPictures(Reranker):
    def rating(self, picture: Image, text: str) -> float:
        before = super().rating(picture, text)
        picture.thumbnail((4, 4))
        return before

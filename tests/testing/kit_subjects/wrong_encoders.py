"""Encoders with one fault each."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from kit_subjects.right import Encoder, Pooler, Projector
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.errors import DataError
from heritage_align.ops import Ragged
from heritage_align.protocols import BuildContext, EncodedImages, EncodedRegions, PixelRecipe
from heritage_align.testing.samples import ToyEncoder


class LongImageRows(Encoder):
    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        rows, cells = super().encode_pixels(pixels, patches=patches)
        return EncodedImages(rows * 2, cells)


class HalfImageRows(Encoder):
    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        rows, cells = super().encode_pixels(pixels, patches=patches)
        return EncodedImages(rows.half(), cells)


class KeepsGraph(Encoder):
    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        rows, cells = super().encode_pixels(pixels, patches=patches)
        return EncodedImages(rows * torch.ones(1, requires_grad=True), cells)


class LongTextRows(Encoder):
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return super().encode_texts(texts) * 2


class KeepsClassToken(Encoder):
    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        rows, cells = super().encode_pixels(pixels, patches=patches)
        return EncodedImages(rows, None if cells is None else torch.cat([rows[:, None], cells], dim=1))


class PoolsAlways(Pooler):
    """Of a configuration that does not name boxes."""


class PoolsWholes(Pooler):
    def encode_regions(self, pixels: Tensor, boxes: Ragged) -> EncodedRegions:
        rows = self.encode_pixels(pixels).global_features
        return EncodedRegions(rows, rows.repeat_interleave(boxes.offsets.diff(), dim=0))


class PoolsFirstPicture(Pooler):
    def encode_regions(self, pixels: Tensor, boxes: Ragged) -> EncodedRegions:
        rows = self.encode_pixels(pixels).global_features
        runs = torch.tensor([0, len(boxes.values), *[len(boxes.values)] * (len(pixels) - 1)])
        return EncodedRegions(rows, super().encode_regions(pixels, Ragged(boxes.values, runs)).regions)


class CentresBatch(Encoder):
    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        return super().encode_pixels(pixels - 0.5 * pixels.mean(dim=0, keepdim=True), patches=patches)


class AttendsToPadding(Encoder):
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        longest = max((len(text) for text in texts), default=0)
        return normalize(super().encode_texts(texts) + 0.01 * longest, dim=-1)


class RandomWeights(Encoder):
    def __init__(self, config: object, context: BuildContext) -> None:
        super().__init__(config, context)
        self._whole = torch.randn(self._whole.shape)


class Constant(Encoder):
    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        return super().encode_pixels(torch.zeros_like(pixels), patches=patches)


class Nameless(Encoder):
    def fingerprint(self) -> str:
        return "my model"


class KeepsSize(Encoder):
    def prepare(self, image: Image.Image) -> Tensor:
        return torch.zeros(3, image.height, image.width)


class SaysBicubic(Encoder):
    def pixel_recipe(self) -> PixelRecipe:
        return PixelRecipe(8, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class SharesBuffer(Encoder):
    def prepare(self, image: Image.Image) -> Tensor:
        self.picture = image
        time.sleep(0.002)
        return super().prepare(self.picture)


class StacksNothing(Encoder):
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.cat([super(StacksNothing, self).encode_texts([text]) for text in texts])


class RunsOffPositions(Encoder):
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        positions = list(range(77))
        for text in texts:
            positions[len(text)]
        return super().encode_texts(texts)


class TakesBlanks(ToyEncoder):
    def __init__(self, config: object, context: BuildContext) -> None:
        super().__init__()


class TakesAnyWidth(Projector):
    def encode_features(self, features: Tensor) -> Tensor:
        return super().encode_features(features[:, :5])


class SaysOnlyNo(Projector):
    def encode_features(self, features: Tensor) -> Tensor:
        if features.shape[1] != 5:
            raise DataError("the features do not fit")
        return super().encode_features(features)


class LongFeatureRows(Projector):
    def encode_features(self, features: Tensor) -> Tensor:
        return super().encode_features(features) * 2


class CentresFeatures(Projector):
    def encode_features(self, features: Tensor) -> Tensor:
        return super().encode_features(features - 0.5 * features.mean(dim=0, keepdim=True))


class NoFingerprint(Encoder):
    fingerprint = None  # type: ignore[assignment]


class SeedsTorch(Encoder):
    def __init__(self, config: object, context: BuildContext) -> None:
        super().__init__(config, context)
        torch.manual_seed(0)


class LiftsPixelLimit(Encoder):
    def __init__(self, config: object, context: BuildContext) -> None:
        super().__init__(config, context)
        Image.MAX_IMAGE_PIXELS = None

"""Small inputs that have broken real code: one pixel, no texture, extreme shapes, no regions, all-negative
cosines."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.ops import Ragged, triangular_factor
from heritage_align.protocols import EncodedImages
from heritage_align.types import ImageFeatures, Regions, TextFeatures, TextItem

DIM = 8

TEXTS: tuple[TextItem, ...] = (
    TextItem("zh", "红地团窠牡丹纹锦，四角饰云纹", phrases=("团窠牡丹纹", "云纹"), language="zh"),
    TextItem("en", "two cranes and a lotus on a blue ground", phrases=("two cranes", "a lotus"), language="en"),
    TextItem("one", "鹤", language="zh"),
    TextItem("mixed", "卍字 (wan-fret) border, 17th c.: 龙 & 凤!", language=None),
)
"""Texts as catalogues have them: Chinese, English, one character, both at once."""


def images() -> dict[str, Image.Image]:
    """Return small upright RGB pictures by what is special about them."""
    draw = np.random.default_rng(7)
    y, x = np.mgrid[0:40, 0:48]
    waves = np.stack([127 + 120 * np.sin(x / 3), 127 + 120 * np.cos(y / 4), (x * y) % 256], axis=-1)
    waves[8:20, 10:26] = (200, 30, 30)
    return {
        "pattern": Image.fromarray(waves.astype(np.uint8)),
        "noise": Image.fromarray(draw.integers(0, 256, (53, 37, 3), dtype=np.uint8)),
        "flat": Image.new("RGB", (32, 32), (128, 128, 128)),
        "pixel": Image.new("RGB", (1, 1), (10, 200, 30)),
        "wide": Image.fromarray(draw.integers(0, 256, (3, 160, 3), dtype=np.uint8)),
        "tall": Image.fromarray(draw.integers(0, 256, (160, 3, 3), dtype=np.uint8)),
    }


def regions_of(picture: Image.Image) -> Regions:
    """Return the whole picture, its quarters and one pixel as regions; all of them for a picture of one
    pixel."""
    w, h = picture.size
    halves = [(0, 0, w / 2, h / 2), (w / 2, 0, w, h / 2), (0, h / 2, w / 2, h), (w / 2, h / 2, w, h)]
    boxes = np.array([(0, 0, w, h), *halves, (0, 0, 1, 1)], dtype=np.float32)
    return Regions(boxes, scores=np.linspace(1, 0.5, len(boxes), dtype=np.float32))


def unit_rows(n: int, dim: int = DIM, seed: int = 0) -> Tensor:
    """Return ``(n, dim)`` random fp32 rows of unit length."""
    return normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def ragged(counts: Sequence[int], dim: int = DIM, seed: int = 0) -> Ragged:
    """Return items of `counts` random rows of unit length."""
    return Ragged(unit_rows(sum(counts), dim, seed), torch.tensor([0, *counts]).cumsum(0))


def image_features(counts: Sequence[int] = (3, 1, 6, 2), dim: int = DIM, seed: int = 0) -> ImageFeatures:
    """Return features of ``len(counts)`` images with `counts` regions, everything optional filled in."""
    values = ragged(counts, dim, seed)
    boxes = torch.tensor([[0.0, 0.0, 0.5, 1.0]]).repeat(sum(counts), 1)
    return ImageFeatures(
        tuple(f"image-{i}" for i in range(len(counts))),
        unit_rows(len(counts), dim, seed + 1),
        values,
        boxes=boxes,
        factor=triangular_factor(values),
    )


def text_features(counts: Sequence[int] = (2, 1, 4), dim: int = DIM, seed: int = 100) -> TextFeatures:
    """Return features of ``len(counts)`` texts with `counts` fragments."""
    return TextFeatures(
        tuple(f"text-{i}" for i in range(len(counts))),
        unit_rows(len(counts), dim, seed + 1),
        ragged(counts, dim, seed),
        tuple(tuple(f"phrase {j}" for j in range(n)) for n in counts),
    )


def images_at(features: ImageFeatures, rows: Sequence[int]) -> ImageFeatures:
    """Return some images of a batch, in the order of `rows`, as if they had been encoded so."""
    assert features.regions is not None
    kept = None
    if features.keep is not None:
        bounds = features.regions.offsets.tolist()
        kept = torch.cat([features.keep[bounds[i] : bounds[i + 1]] for i in rows])
    chosen = items_at(features.regions, rows)
    return ImageFeatures(
        tuple(features.ids[i] for i in rows),
        features.global_features[list(rows)],
        chosen,
        boxes=torch.zeros(len(chosen.values), 4),
        keep=kept,
        factor=triangular_factor(chosen),
    )


def texts_at(features: TextFeatures, rows: Sequence[int]) -> TextFeatures:
    """Return some texts of a batch, in the order of `rows`."""
    assert features.fragments is not None
    return TextFeatures(
        tuple(features.ids[i] for i in rows),
        features.global_features[list(rows)],
        items_at(features.fragments, rows),
        tuple(features.phrases[i] for i in rows),
    )


def images_towards(features: ImageFeatures, direction: Tensor) -> ImageFeatures:
    """Return the images with every row pulled so near to a direction that the sign of its cosines is
    known."""
    assert features.regions is not None
    regions = Ragged(_pulled(features.regions.values, direction), features.regions.offsets)
    moved = replace(features, global_features=_pulled(features.global_features, direction), regions=regions)
    return images_at(moved, range(len(moved)))


def texts_towards(features: TextFeatures, direction: Tensor) -> TextFeatures:
    """Return the texts with every row pulled near to a direction."""
    assert features.fragments is not None
    fragments = Ragged(_pulled(features.fragments.values, direction), features.fragments.offsets)
    return replace(features, global_features=_pulled(features.global_features, direction), fragments=fragments)


def _pulled(rows: Tensor, direction: Tensor) -> Tensor:
    return normalize(rows * 0.2 + direction, dim=-1)


def items_at(items: Ragged, rows: Sequence[int]) -> Ragged:
    """Return some items of a Ragged, in the order of `rows`, which may be empty."""
    bounds = items.offsets.tolist()
    parts = [items.values[bounds[i] : bounds[i + 1]] for i in rows]
    values = torch.cat(parts) if parts else items.values[:0]
    return Ragged(values, torch.tensor([0, *(len(p) for p in parts)]).cumsum(0))


class ToyEncoder:
    """An encoder without weights: fixed random projections of 8 x 8 pixels, of 2 x 2 patches, and of
    characters."""

    dim = DIM
    patch_grid: tuple[int, int] | None = (2, 2)

    def __init__(self) -> None:
        self._whole = unit_rows(3 * 8 * 8, DIM, seed=1)
        self._patch = unit_rows(3 * 4 * 4, DIM, seed=2)

    def fingerprint(self) -> str:
        """Name the toy."""
        return "testing/toy/1"

    def prepare(self, image: Image.Image) -> Tensor:
        """Return ``(3, 8, 8)`` from -1 to 1."""
        resized = np.asarray(image.convert("RGB").resize((8, 8), Image.Resampling.BILINEAR), dtype=np.float32)
        return torch.from_numpy(resized / 127.5 - 1).permute(2, 0, 1).contiguous()

    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        """Return ``(n, 8)`` and ``(n, 4, 8)``."""
        n = len(pixels)
        rows = normalize(pixels.flatten(1) @ self._whole + 0.01, dim=-1)
        if not patches:
            return EncodedImages(rows, None)
        cells = pixels.reshape(n, 3, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(n, 4, 48)
        return EncodedImages(rows, normalize(cells @ self._patch + 0.01, dim=-1))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return ``(n, 8)``."""
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in texts]
        return torch.cat([torch.empty(0, DIM), *(unit_rows(1, seed=seed) for seed in seeds)])

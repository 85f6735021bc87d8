"""Resizing by matrices against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from heritage_align.encoding import resampling
from heritage_align.encoding.resampling import Resampler, filter_weights
from heritage_align.protocols import PixelRecipe

CPU = torch.device("cpu")
SIZES = [(224, 224), (800, 600), (600, 800), (345, 512), (383, 512), (61, 47), (30, 300), (300, 30), (225, 223)]
SIZES += [(1, 1), (2, 400), (400, 2), (3000, 40), (224, 600), (600, 224), (448, 448)]
PLAIN = ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))  # normalisation that gives back the levels


def noise(width: int, height: int) -> Tensor:
    generator = torch.Generator().manual_seed(width)
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)


def by_pillow(pixels: Tensor, size: tuple[int, int], name: str) -> Tensor:
    resized = Image.fromarray(pixels.numpy()).resize(size, Image.Resampling[name.upper()])
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float()


def recipe(side: int, name: str, shortest: int | None = None) -> PixelRecipe:
    return PixelRecipe(side, name, *PLAIN, shortest)  # type: ignore[arg-type]


def assert_same_levels(found: Tensor, wanted: Tensor) -> None:
    off = (found - wanted).abs()
    assert off.max() <= 1.001
    # Ties decide single levels; ratios of small numbers have the most of them. In another order it is a fifth.
    assert (off > 0.5).float().mean() < 0.05


def test_weights_of_halving_by_hand() -> None:
    # Triangles of half-width 2 around 1 and 3: 3/4, 3/4, 1/4 at the distances 1/2, 1/2, 3/2.
    found = filter_weights(4, 2, "bilinear", CPU)
    torch.testing.assert_close(found, torch.tensor([[3, 0], [3, 1], [1, 3], [0, 3]]) / 7, atol=2**-22, rtol=0)


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos"])
def test_squeezed_pictures_are_pillow_s(name: str) -> None:
    for side in (224, 33):
        resample = Resampler(recipe(side, name), CPU)
        for width, height in SIZES:
            pixels = noise(width, height)
            assert_same_levels(resample([pixels])[0], by_pillow(pixels, (side, side), name))


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 301), (154, 95), (64, 64), (33, 90), (40, 2000)])
def test_the_middle_is_cut_out(width: int, height: int) -> None:
    side, shortest = 32, 40
    pixels = noise(width, height)
    scaled = (40, int(40 * height / width)) if width <= height else (int(40 * width / height), 40)
    left, top = (scaled[0] - side) // 2, (scaled[1] - side) // 2
    wanted = by_pillow(pixels, scaled, "bicubic")[:, top : top + side, left : left + side]
    assert_same_levels(Resampler(recipe(side, "bicubic", shortest), CPU)([pixels])[0], wanted)


def test_a_square_larger_than_what_it_is_cut_from_is_refused() -> None:
    with pytest.raises(ValueError, match="cuts 32 pixels out of a shorter side of 31"):
        Resampler(recipe(32, "bicubic", 31), CPU)


def test_pictures_of_all_sizes_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_CHUNK_VALUES", 3 * 40 * 30 * 2)
    pictures = [noise(40, 30), noise(40, 30), noise(40, 30), noise(30, 40), noise(90, 90), noise(40, 30)]
    pictures[1] = 255 - pictures[1]
    resample = Resampler(recipe(16, "bicubic"), CPU)
    torch.testing.assert_close(resample(iter(pictures)), torch.cat([resample([one]) for one in pictures]))


def test_values_are_normalised() -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    flat = torch.tensor([10, 20, 30], dtype=torch.uint8).expand(9, 5, 3)
    found = Resampler(PixelRecipe(4, "bicubic", mean, std), CPU)([flat])
    wanted = (torch.tensor([10, 20, 30]) / 255 - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(found, wanted[None, :, None, None].expand(1, 3, 4, 4))


def test_weights_are_kept_within_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_CACHE_BYTES", 3 * 50 * 16 * 4)
    resample = Resampler(recipe(16, "bicubic"), CPU)
    pictures = [noise(50, 50 - n) for n in range(6)]
    together = resample(pictures)
    assert 1 <= len(resample._weights) <= 3
    assert resample._bytes == sum(matrix.nbytes for matrix in resample._weights.values())
    torch.testing.assert_close(together, torch.cat([Resampler(recipe(16, "bicubic"), CPU)([one]) for one in pictures]))

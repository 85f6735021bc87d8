"""Recipes of image processors: offered where they give what the processor gives, else not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from heritage_align.encoding.resampling import Resampler

SIZES = [(33, 90), (90, 33), (40, 41), (32, 32), (20, 25), (200, 64), (65, 200)]


def noise(width: int, height: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("family", ["chinese_clip", "clip", "siglip", "siglip2"])
@pytest.mark.parametrize("squeeze", [False, True])
def test_the_recipe_gives_what_the_processor_gives(build, family, squeeze):
    encoder = build(family, squeeze=squeeze)
    recipe = encoder.pixel_recipe()
    assert recipe is not None
    assert (recipe.shortest is not None) == (family == "clip" and not squeeze)
    resample, std = Resampler(recipe, torch.device("cpu")), torch.tensor(recipe.std)[:, None, None]
    for width, height in SIZES:
        pixels = noise(width, height)
        levels = (resample([torch.from_numpy(pixels)])[0] - encoder.prepare(Image.fromarray(pixels))) * std * 255
        # Tall noise is resized columns first by Pillow 13, rows first by torch.
        assert levels.abs().mean() < 0.5, (width, height)


@pytest.mark.parametrize(
    "change",
    [{"do_normalize": False}, {"do_rescale": False}, {"resample": Image.Resampling.BOX}, {"rescale_factor": 1 / 128}],
)
def test_a_processor_that_does_something_else_has_none(build, change):
    encoder = build("clip")
    for name, value in change.items():
        setattr(encoder._prepare._processor, name, value)
    assert encoder.pixel_recipe() is None

"""Pictures as a model's own image processor prepares them, always as ``(3, side, side)``."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from heritage_align.encoding import Resampler
from heritage_align.plugin import PixelRecipe

_RESAMPLING: dict[int | None, Literal["bilinear", "bicubic", "lanczos"]] = {
    Image.Resampling.BILINEAR: "bilinear",
    Image.Resampling.BICUBIC: "bicubic",
    Image.Resampling.LANCZOS: "lanczos",
}


class Preparer:
    """Wraps an image processor of the transformers library; safe in threads.

    Args:
        processor: the model's image processor.
        side: of the square input in pixels.
        squeeze: resize the whole picture to the square, whatever the processor would do.
        patch: side of a patch in pixels for SigLIP 2's flexible form, whose processor returns rows of patches
            (pictures are always squeezed to a square here, because a batch is one tensor); None for others.
    """

    def __init__(self, processor: Any, side: int, squeeze: bool, patch: int | None) -> None:
        self._processor, self._side, self._patch = processor, side, patch
        self._squeeze = squeeze or patch is not None
        self.crops = bool(getattr(processor, "do_center_crop", False)) and not self._squeeze

    def __call__(self, image: Image.Image) -> Tensor:
        """Return ``(3, side, side)`` float32.

        Raises:
            ValueError: the processor returns another size; `squeeze` helps.
        """
        options: dict[str, Any] = {}
        if self._squeeze:
            resample = Image.Resampling(self._processor.resample)
            image = image.convert("RGB").resize((self._side, self._side), resample)
            options = {"do_resize": False, "do_center_crop": False}
        if self._patch is not None:
            options = {"max_num_patches": (self._side // self._patch) ** 2, "patch_size": self._patch}
        pixels: Tensor = self._processor(images=image, return_tensors="pt", **options)["pixel_values"][0]
        if self._patch is not None:
            pixels = join_patches(pixels, self._patch)
        if pixels.shape != (3, self._side, self._side):
            raise ValueError(
                f"image: the model's processor returns {tuple(pixels.shape)}, not "
                f"(3, {self._side}, {self._side}); set squeeze: true"
            )
        return pixels

    def recipe(self) -> PixelRecipe | None:
        """Return what a call does, None unless a picture of noise comes out the same by the recipe, to 2 of 255 levels.

        Processors differ in more than their settings say, from class to class and from one version to the next.
        """
        recipe = self._stated()
        if recipe is None:
            return None
        height, width = 2 * self._side + 31, 3 * self._side + 58
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        ours = Resampler(recipe, torch.device("cpu"))([torch.from_numpy(noise)])[0]
        levels = (ours - self(Image.fromarray(noise))) * torch.tensor(recipe.std)[:, None, None] * 255
        return recipe if levels.abs().max() <= 2 else None

    def _stated(self) -> PixelRecipe | None:
        """Return what the processor's settings say, None where they say something else than a recipe can."""
        processor = self._processor
        resampling = _RESAMPLING.get(getattr(processor, "resample", None))
        plain = all(getattr(processor, step, False) for step in ("do_rescale", "do_normalize"))
        if resampling is None or not plain or len(processor.image_mean) != 3:
            return None
        size = dict(processor.size or {})
        shortest = size.get("shortest_edge") if self.crops else None
        if not self._squeeze and shortest is None and (size.get("height"), size.get("width")) != (self._side,) * 2:
            return None
        if shortest is not None and shortest < self._side:
            return None
        return PixelRecipe(self._side, resampling, tuple(processor.image_mean), tuple(processor.image_std), shortest)


def join_patches(rows: Tensor, patch: int) -> Tensor:
    """Turn the patches of a square ``(n_patches, patch * patch * 3)`` into ``(3, side, side)``."""
    count = round(len(rows) ** 0.5)
    grid = rows.reshape(count, count, patch, patch, 3).permute(4, 0, 2, 1, 3)
    return grid.reshape(3, count * patch, count * patch)


def split_patches(pixels: Tensor, patch: int) -> dict[str, Tensor]:
    """Turn ``(n, 3, side, side)`` into the inputs of SigLIP 2's flexible form."""
    n, _, side, _ = pixels.shape
    count = side // patch
    rows = pixels.reshape(n, 3, count, patch, count, patch).permute(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": rows.reshape(n, count * count, patch * patch * 3),
        "pixel_attention_mask": torch.ones(n, count * count, dtype=torch.int64, device=pixels.device),
        "spatial_shapes": torch.full((n, 2), count, dtype=torch.int64, device=pixels.device),
    }

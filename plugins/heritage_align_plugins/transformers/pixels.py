"""Pictures as a model's own image processor prepares them, always as ``(3, side, side)``."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor


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

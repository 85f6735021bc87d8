"""The model that is trained, as an encoder with gradients."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from PIL.Image import Image
from torch import Tensor

from heritage_align_plugins.cn_clip.loading import LoadedModel
from heritage_align_plugins.cn_clip.preprocess import prepare_image
from heritage_align_plugins.cn_clip.trainable.model import TrainableTowers

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Student:
    """A cn_clip model on its device.

    Args:
        loaded: the model and what it is of.
        device: where it goes.
        precision: of its forward pass (autocast); its weights stay fp32.
        checkpointing: recompute layers in the backward pass.
    """

    def __init__(self, loaded: LoadedModel, device: torch.device, precision: str, checkpointing: bool) -> None:
        self.model, self.architecture = loaded.model.to(device), loaded.architecture
        self.characters = loaded.characters
        self.device = device
        self._dtype = _PRECISIONS[precision]
        self._towers = TrainableTowers(self.model, checkpointing)

    @property
    def images_are_frozen(self) -> bool:
        """Whether nothing that shapes pictures' features is trained."""
        return _none_trained(self.model.visual.parameters())

    @property
    def texts_are_frozen(self) -> bool:
        """Whether nothing that shapes texts' features is trained."""
        return _none_trained([*self.model.bert.parameters(), self.model.text_projection])

    def prepare(self, image: Image) -> Tensor:
        """Return ``(3, side, side)`` float32."""
        return prepare_image(image, self.architecture.image_resolution)

    def images(self, pixels: Tensor, mask_ratio: float = 0.0) -> Tensor:
        """Encode prepared pictures ``(n, 3, side, side)``; returns ``(n, dim)`` unit rows, fp32."""
        with self._autocast():
            return self._towers.images(pixels.to(self.device, non_blocking=True), mask_ratio)

    def views(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode prepared pictures; returns ``(n, dim)`` and their patches ``(n, n_patches, dim)``, unit rows, fp32."""
        with self._autocast():
            return self._towers.views(pixels.to(self.device, non_blocking=True))

    def texts(self, tokens: Tensor) -> Tensor:
        """Encode texts ``(n, length)`` int64; returns ``(n, dim)`` unit rows, fp32."""
        with self._autocast():
            return self._towers.texts(tokens)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32)


def _none_trained(parameters: Iterable[Tensor]) -> bool:
    return not any(parameter.requires_grad for parameter in parameters)

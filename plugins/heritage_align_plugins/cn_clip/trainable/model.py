"""Both towers of a cn_clip model for training."""

from __future__ import annotations

from dataclasses import dataclass

from cn_clip.clip.model import CLIP, ModifiedResNet
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align_plugins.cn_clip.trainable import resnet, text, vision


@dataclass(frozen=True)
class TrainableTowers:
    """Encodes with gradients to a cn_clip model's own parameters, in its own mode (dropout, batch normalisation).

    Attributes:
        model: the model; nothing of it is copied, so that its state dict is what was trained.
        checkpointing: recompute blocks in the backward pass: less memory, a third more time. Not of a ResNet, for
            which cn_clip has none either.
    """

    model: CLIP
    checkpointing: bool = False

    def images(self, pixels: Tensor, mask_ratio: float = 0.0) -> Tensor:
        """Return ``(n, dim)`` unit rows, fp32, of pictures ``(n, 3, side, side)``.

        Args:
            pixels: prepared as by the encoder's `prepare`.
            mask_ratio: share of the patches that are left out at random (FLIP).

        Raises:
            ValueError: `mask_ratio` is set for a ResNet, which has no patches.
        """
        visual = self.model.visual
        if isinstance(visual, ModifiedResNet):
            if mask_ratio:
                raise ValueError("mask_ratio: a ResNet has no patches to leave out")
            return _unit(resnet.encode_images(visual, pixels))
        checkpointing = self.checkpointing and visual.training
        return _unit(vision.encode_images(visual, pixels, mask_ratio=mask_ratio, checkpointing=checkpointing))

    def views(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return pictures ``(n, dim)`` and patches ``(n, n_patches, dim)``, unit rows, fp32. Not of a ResNet."""
        visual = self.model.visual
        images, patches = vision.encode_views(visual, pixels, checkpointing=self.checkpointing and visual.training)
        return _unit(images), _unit(patches)

    def texts(self, tokens: Tensor) -> Tensor:
        """Return ``(n, dim)`` unit rows, fp32, of texts ``(n, length)``, int64 tokens with 0 for padding."""
        checkpointing = self.checkpointing and self.model.bert.training
        return _unit(text.encode_texts(self.model, tokens, checkpointing=checkpointing))


def _unit(x: Tensor) -> Tensor:
    return normalize(x.float(), dim=-1)

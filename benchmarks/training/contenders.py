"""The two sides of the training benchmark: a step of ours, and the step of cn_clip's ``train.py``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from cn_clip.clip.model import CLIP
from heritage_align_plugins.cn_clip.architecture import Architecture, build_model
from heritage_align_plugins.cn_clip.preprocess import prepare_texts
from heritage_align_plugins.cn_clip.trainable.model import TrainableTowers
from heritage_align_plugins.contrastive.config import ContrastiveConfig
from heritage_align_plugins.contrastive.loss import info_nce
from heritage_align_plugins.contrastive.optimizer import build_optimizer
from torch import Tensor
from torch.nn.functional import cross_entropy

CASES = ("full", "locked", "flip", "recomputed")
SIDES = ("ours", "cn_clip")
CAPTIONS = (
    "蓝地团窠对鸟纹锦,中间是一对衔绶带的立鸟,四周环绕着联珠和卷草",
    "明代缂丝花鸟图轴,牡丹、玉兰与锦鸡,设色典雅,织造精细",
    "敦煌壁画中的飞天手持琵琶,衣带飘举,背景为祥云与散花",
    "一个穿着红色衣服的女孩在公园里放风筝",
)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Inputs:
    """One batch: pictures ``(n, 3, side, side)`` and captions ``(n, 52)``."""

    pixels: Tensor
    tokens: Tensor


def inputs_of(architecture: Architecture, batch: int, device: str) -> Inputs:
    """Return random pictures, and captions of a collection's length."""
    side = architecture.image_resolution
    pixels = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
    tokens = prepare_texts([CAPTIONS[row % len(CAPTIONS)] + str(row) for row in range(batch)], 52)
    return Inputs(pixels.to(device), tokens.to(device))


class Step:
    """One side of one case: a model, its optimiser, and the step that is timed.

    Args:
        side: of `SIDES`.
        case: of `CASES`.
        architecture: of the model, whose weights are the same on both sides.
        inputs: the batch.
        precision: ``"fp32"`` or ``"bf16"`` (autocast).
    """

    def __init__(self, side: str, case: str, architecture: Architecture, inputs: Inputs, precision: str) -> None:
        self._ours, self._case = side == "ours", case
        self._inputs, self._device, self._dtype = inputs, inputs.pixels.device, _DTYPES[precision]
        torch.manual_seed(0)
        self.model: CLIP = build_model(architecture).to(self._device).train()
        if case == "locked":
            self.model.visual.requires_grad_(False)
        if case == "recomputed" and not self._ours:
            self.model.set_grad_checkpointing()
        self._towers = TrainableTowers(self.model, checkpointing=case == "recomputed")
        self._mask_ratio = 0.5 if case == "flip" else 0.0
        build = _our_optimizer if self._ours else _their_optimizer
        self._optimizer = build(self.model)
        self._kept: Tensor | None = None

    def gradient(self, inputs: Inputs) -> float:
        """Compute the gradient of a batch; returns the loss."""
        self._optimizer.zero_grad()
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            loss = self._our_loss(inputs) if self._ours else self._their_loss(inputs)
        loss.backward()
        return float(loss.detach())

    def __call__(self, inputs: Inputs | None = None) -> None:
        """Take a step."""
        self.gradient(inputs or self._inputs)
        self._optimizer.step()
        if not self._ours:  # ours is a hook of the optimiser
            self.model.logit_scale.data = torch.clamp(self.model.logit_scale.data, 0, 4.6052)
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def _our_loss(self, inputs: Inputs) -> Tensor:
        if self._case == "locked":
            if self._kept is None or len(self._kept) != len(inputs.pixels):
                with torch.no_grad():
                    self._kept = self._towers.images(inputs.pixels)
            images = self._kept
        else:
            images = self._towers.images(inputs.pixels, self._mask_ratio)
        return info_nce(images, self._towers.texts(inputs.tokens), self.model.logit_scale.exp())

    def _their_loss(self, inputs: Inputs) -> Tensor:
        images, texts, scale = self.model(inputs.pixels, inputs.tokens, self._mask_ratio)
        logits = scale * images @ texts.t()
        target = torch.arange(len(logits), device=logits.device)
        return (cross_entropy(logits, target) + cross_entropy(logits.t(), target)) / 2


def _our_optimizer(model: CLIP) -> torch.optim.Optimizer:
    return build_optimizer(model, ContrastiveConfig())


def _their_optimizer(model: CLIP) -> torch.optim.Optimizer:
    """Return AdamW as cn_clip's ``main.py`` builds it, with the constants of its fine-tuning scripts."""

    def spared(name: str) -> bool:
        return "bn" in name or "ln" in name or "bias" in name or "logit_scale" in name

    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in trained if spared(name)], "weight_decay": 0.0},
        {"params": [p for name, p in trained if not spared(name)], "weight_decay": 0.001},
    ]
    return torch.optim.AdamW(groups, lr=5e-5, betas=(0.9, 0.98), eps=1e-6)

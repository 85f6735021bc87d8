"""AdamW with the groups and constants of Chinese-CLIP's code."""

from __future__ import annotations

from typing import Any

import torch
from cn_clip.clip.model import CLIP, ModifiedResNet

from heritage_align_plugins.contrastive.config import ContrastiveConfig

MAX_LOGIT_SCALE = 4.6052  # ln 100 as cn_clip's train.py rounds it


def build_optimizer(model: CLIP, config: ContrastiveConfig) -> torch.optim.AdamW:
    """Return AdamW over all parameters; frozen ones have no gradient and are passed over.

    After every step the logarithm of the inverse temperature is clamped to ``[0, ln 100]``.
    """
    plain: list[torch.nn.Parameter] = []
    decayed: list[torch.nn.Parameter] = []
    faster: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if name == "logit_scale" and config.scale_rate != 1:
            faster.append(parameter)
        else:
            (plain if any(part in name for part in config.no_decay) else decayed).append(parameter)
    rate = config.learning_rate
    groups = [
        {"params": parameters, "weight_decay": decay, "lr": peak}
        for parameters, decay, peak in (
            (plain, 0.0, rate),
            (decayed, config.weight_decay, rate),
            (faster, 0.0, rate * config.scale_rate),
        )
        if parameters
    ]
    resnet = isinstance(model.visual, ModifiedResNet)
    beta2 = (0.999 if resnet else 0.98) if config.beta2 is None else config.beta2
    epsilon = (1e-8 if resnet else 1e-6) if config.epsilon is None else config.epsilon
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, beta2), eps=epsilon, fused=True)
    scale = model.logit_scale

    def clamp(*_: Any) -> None:
        with torch.no_grad():
            scale.clamp_(0.0, MAX_LOGIT_SCALE)

    optimizer.register_step_post_hook(clamp)
    return optimizer

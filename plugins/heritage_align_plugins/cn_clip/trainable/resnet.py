"""The ResNet of Chinese-CLIP's RN50 with gradients: the attention pool answers its one query alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from cn_clip.clip.model import AttentionPool2d, ModifiedResNet


def encode_images(visual: ModifiedResNet, pixels: Tensor) -> Tensor:
    """Encode pictures ``(n, 3, side, side)`` as ``visual(pixels)`` does; returns ``(n, dim)``, not normalised."""
    x = pixels
    for number in (1, 2, 3):
        x = getattr(visual, f"bn{number}")(getattr(visual, f"conv{number}")(x)).relu()
    x = visual.avgpool(x)
    for number in (1, 2, 3, 4):
        x = getattr(visual, f"layer{number}")(x)
    return _pool(visual.attnpool, x)


def _pool(pool: AttentionPool2d, grid: Tensor) -> Tensor:
    """The mean of all places asks, all places and the mean answer."""
    x = grid.flatten(2).transpose(1, 2)
    x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
    x = x + pool.positional_embedding.to(x.dtype)
    parts = ((pool.q_proj, x[:, :1]), (pool.k_proj, x), (pool.v_proj, x))
    q, k, v = (project(part).unflatten(2, (pool.num_heads, -1)).transpose(1, 2) for project, part in parts)
    return pool.c_proj(scaled_dot_product_attention(q, k, v).flatten(1))

"""Patch features in the joint space from the vision towers of CLIP and SigLIP in the transformers library."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from heritage_align_plugins.cn_clip.patches import neighbourhood
from heritage_align_plugins.transformers.config import RecipeName


def clip_patches(model: Any, states: Any, recipe: RecipeName, grid: tuple[int, int], sigma: float) -> Tensor:
    """Project the patches of a CLIP ViT as its class token is projected.

    Args:
        model: a ``CLIPModel`` or ``ChineseCLIPModel``.
        states: output of its vision tower, with hidden states for other recipes than plain.
        recipe: what the last block does: plain, as trained; clearclip, queries attend to queries (Lan et al. 2024);
            naclip, keys attend to keys and most to their neighbours (Hajimiri et al. 2025). The latter two without
            residual and MLP.
        grid: rows and columns of patches.
        sigma: reach of naclip's neighbourhood, in patches.

    Returns:
        ``(n, n_patches, dim)``, not normalised.
    """
    tokens = states.last_hidden_state
    if recipe != "plain":
        last = model.vision_model.encoder.layers[-1]
        attention, x = last.self_attn, last.layer_norm1(states.hidden_states[-2])
        heads = (attention.num_heads, -1)
        asked = attention.q_proj if recipe == "clearclip" else attention.k_proj
        x, v = (part(x).unflatten(2, heads).transpose(1, 2) for part in (asked, attention.v_proj))
        near = neighbourhood(grid, sigma).to(v.device, v.dtype) if recipe == "naclip" else None
        mixed = scaled_dot_product_attention(x, x, v, attn_mask=near)
        tokens = attention.out_proj(mixed.transpose(1, 2).flatten(2))
    projected: Tensor = model.visual_projection(model.vision_model.post_layernorm(tokens[:, 1:]))
    return projected


def siglip_patches(model: Any, states: Any) -> Tensor:
    """Let SigLIP's pooling head look at each patch alone.

    The head's probe attends to one key, so that what remains of the attention is its value and output
    projection, followed by the head's residual MLP: the patch comes out in the space of the pooled vector.

    Args:
        model: a ``SiglipModel`` or ``Siglip2Model``.
        states: output of its vision tower.

    Returns:
        ``(n, n_patches, dim)``, not normalised.
    """
    tokens = states.last_hidden_state
    n, count, width = tokens.shape
    pooled: Tensor = model.vision_model.head(tokens.reshape(n * count, 1, width))
    return pooled.view(n, count, -1)

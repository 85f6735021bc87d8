"""Patch features in the joint space from the vision towers of CLIP and SigLIP in the transformers library."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def clip_patches(model: Any, states: Any, clearclip: bool) -> Tensor:
    """Project the patches of a CLIP ViT as its class token is projected.

    Args:
        model: a ``CLIPModel`` or ``ChineseCLIPModel``.
        states: output of its vision tower, with hidden states if `clearclip`.
        clearclip: let queries attend to queries in the last block, without residual and MLP (Lan et al.
            2024); otherwise the block runs as trained.

    Returns:
        ``(n, n_patches, dim)``, not normalised.
    """
    tokens = states.last_hidden_state
    if clearclip:
        last = model.vision_model.encoder.layers[-1]
        attention, x = last.self_attn, last.layer_norm1(states.hidden_states[-2])
        heads = (attention.num_heads, -1)
        q, v = (part(x).unflatten(2, heads).transpose(1, 2) for part in (attention.q_proj, attention.v_proj))
        mixed = scaled_dot_product_attention(q, q, v)
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

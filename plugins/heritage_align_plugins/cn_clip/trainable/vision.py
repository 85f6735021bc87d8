"""The ViT of a cn_clip model with gradients.

Against the library's own forward pass: the last block computes the class token alone (nothing else of it is used),
FLIP drops patches before they are embedded, attention is torch's fused one on batch-first tokens, and QuickGELU,
x * sigmoid(1.702 x) = silu(1.702 x) / 1.702, is a silu between scaled weights: two passes over the wide tokens less
in each direction (1.13 times as fast for a batch of 128 through motif-small's ViT on one core of a Xeon), and one
tensor kept for the backward pass where the library keeps two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention, silu
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from cn_clip.clip.model import ResidualAttentionBlock, VisualTransformer

_QUICK_GELU = 1.702


def encode_images(
    visual: VisualTransformer, pixels: Tensor, *, mask_ratio: float = 0.0, checkpointing: bool = False
) -> Tensor:
    """Encode pictures as ``visual(pixels, mask_ratio)`` does.

    Args:
        visual: the ViT; gradients reach its parameters.
        pixels: ``(n, 3, side, side)``.
        mask_ratio: share of the patches that are left out at random (FLIP, Li et al. 2023). The same patches are
            left out as by cn_clip after the same `torch.manual_seed`.
        checkpointing: recompute blocks in the backward pass instead of keeping what is inside them.

    Returns:
        ``(n, dim)``, not normalised.
    """
    x = visual.ln_pre(_tokens(visual, pixels, mask_ratio))
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = checkpoint(_block, block, x, use_reentrant=False) if checkpointing else _block(block, x)
    return visual.ln_post(_last_block(last, x)) @ visual.proj


def encode_views(visual: VisualTransformer, pixels: Tensor, *, checkpointing: bool = False) -> tuple[Tensor, Tensor]:
    """Encode pictures and their patches, these through the last block as it is (the encoder's ``plain`` patches).

    Args:
        visual: the ViT; gradients reach its parameters.
        pixels: ``(n, 3, side, side)``.
        checkpointing: as of `encode_images`.

    Returns:
        ``(n, dim)`` as `encode_images`, and ``(n, n_patches, dim)``; not normalised.
    """
    x = visual.ln_pre(_tokens(visual, pixels, 0.0))
    for block in visual.transformer.resblocks:
        x = checkpoint(_block, block, x, use_reentrant=False) if checkpointing else _block(block, x)
    joint = visual.ln_post(x) @ visual.proj
    return joint[:, 0], joint[:, 1:]


def _tokens(visual: VisualTransformer, pixels: Tensor, mask_ratio: float) -> Tensor:
    """Return the class token and the patches that are kept, ``(n, 1 + n_kept, width)``, with their positions."""
    n, channels, height, width = pixels.shape
    side = visual.conv1.kernel_size[0]
    rows, columns = height // side, width // side
    # The patches do not overlap, so that the convolution is one matrix product.
    patches = pixels.view(n, channels, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(n, rows * columns, channels * side * side)
    positions = visual.positional_embedding
    places = positions[1:].expand(n, -1, -1)
    if mask_ratio:
        kept = torch.rand(n, rows * columns, device=pixels.device).argsort(dim=1)
        kept = kept[:, : int(rows * columns * (1 - mask_ratio)), None]
        patches = patches.gather(1, kept.expand(-1, -1, patches.shape[2]))
        places = positions[1:][kept[..., 0]]
    tokens = linear(patches, visual.conv1.weight.flatten(1))
    tokens = tokens + places.to(tokens.dtype)
    first = (visual.class_embedding + positions[0]).to(tokens.dtype).expand(n, 1, -1)
    return torch.cat([first, tokens], dim=1)


def _block(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """Run a block on all tokens ``(n, n_tokens, width)``."""
    attention = block.attn
    joint = linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = joint.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return _mlp(block, x + attention.out_proj(mixed))


def _last_block(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """Run a block on the class token, which sees all tokens ``(n, n_tokens, width)``; returns ``(n, width)``."""
    attention, n = block.attn, len(x)
    width = x.shape[2]
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    normed = block.ln_1(x)
    q = linear(normed[:, :1], weight[:width], bias[:width]).view(n, 1, attention.num_heads, -1).transpose(1, 2)
    joint = linear(normed, weight[width:], bias[width:])
    k, v = joint.unflatten(2, (2, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    mixed = scaled_dot_product_attention(q, k, v).flatten(1)
    return _mlp(block, x[:, 0] + attention.out_proj(mixed))


def _mlp(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    first, second = block.mlp.c_fc, block.mlp.c_proj
    wide = silu(linear(block.ln_2(x), _QUICK_GELU * first.weight, _QUICK_GELU * first.bias))
    return x + linear(wide, second.weight / _QUICK_GELU, second.bias)

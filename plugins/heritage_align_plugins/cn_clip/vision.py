"""The ViT of a Chinese-CLIP model for inference: the numbers of cn_clip's own forward pass, in less time.

The last block computes the class token alone unless patches are asked for, and QuickGELU,
x * sigmoid(1.702 x), becomes silu in place by scaling the weights around it with 1.702. On one core of an AMD
EPYC with ViT-B-16 each is worth 5 %; benchmarks/pipeline/encode.py measures the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention, silu

if TYPE_CHECKING:
    from cn_clip.clip.model import ResidualAttentionBlock, VisualTransformer

Convert = Callable[[Tensor], Tensor]
_QUICK_GELU = 1.702


class Norm:
    """Layer normalisation with the weights of a module; statistics are fp32 in every precision."""

    def __init__(self, module: torch.nn.LayerNorm, convert: Convert) -> None:
        self._shape, self._eps = module.normalized_shape, module.eps
        self._weight, self._bias = convert(module.weight), convert(module.bias)

    def __call__(self, x: Tensor) -> Tensor:
        return layer_norm(x, self._shape, self._weight, self._bias, self._eps)


class Block:
    """One residual attention block."""

    def __init__(self, block: ResidualAttentionBlock, convert: Convert) -> None:
        self._heads = block.attn.num_heads
        self._before_attention, self._before_mlp = Norm(block.ln_1, convert), Norm(block.ln_2, convert)
        self._in = convert(block.attn.in_proj_weight), convert(block.attn.in_proj_bias)
        self._out = convert(block.attn.out_proj.weight), convert(block.attn.out_proj.bias)
        widen, narrow = block.mlp.c_fc, block.mlp.c_proj
        self._widen = convert(widen.weight * _QUICK_GELU), convert(widen.bias * _QUICK_GELU)
        self._narrow = convert(narrow.weight / _QUICK_GELU), convert(narrow.bias)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k, v of tokens ``(n, n_tokens, width)``, each ``(n, heads, n_tokens, head_width)``."""
        joint = linear(self._before_attention(x), *self._in)
        q, k, v = joint.unflatten(2, (3, self._heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return ``(n, n_queries, width)``: attention with its output projection, nothing added.

        Args:
            q: ``(n, heads, n_queries, head_width)``.
            k: ``(n, heads, n_tokens, head_width)``.
            v: like `k`.
            bias: ``(n_queries, n_tokens)``, added to the logits.
        """
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return linear(mixed.transpose(1, 2).flatten(2), *self._out)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the attention's output to the tokens `x`, then the MLP's; both ``(n, n_tokens, width)``."""
        x = x + attended
        return x + linear(silu(linear(self._before_mlp(x), *self._widen), inplace=True), *self._narrow)

    def __call__(self, x: Tensor) -> Tensor:
        return self.finish(x, self.attend(*self.project(x)))


class LastBlock(NamedTuple):
    """The last block, the tokens that enter it ``(n, n_tokens, width)``, and its projections of them."""

    block: Block
    tokens: Tensor
    q: Tensor
    k: Tensor
    v: Tensor


PatchRecipe = Callable[[LastBlock], Tensor]
"""Returns the last block's output for all tokens, ``(n, n_tokens, width)``."""


class VisionTower:
    """Encodes pictures with the weights of a cn_clip ViT."""

    def __init__(self, visual: VisualTransformer, convert: Convert) -> None:
        self._patch = visual.conv1.kernel_size[0]
        self._embed = convert(visual.conv1.weight.flatten(1))
        self._class_token = convert(visual.class_embedding)
        self._positions = convert(visual.positional_embedding)
        self._before, self._after = Norm(visual.ln_pre, convert), Norm(visual.ln_post, convert)
        self._blocks = [Block(block, convert) for block in visual.transformer.resblocks]
        self._projection = convert(visual.proj)

    def __call__(self, pixels: Tensor, recipe: PatchRecipe | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode pictures.

        Args:
            pixels: ``(n, 3, side, side)``.
            recipe: how the last block treats patches; None if no patches are wanted.

        Returns:
            Vectors of the pictures ``(n, dim)`` and of the patches ``(n, n_patches, dim)``, not normalised.
        """
        x = self._before(self._embedded(pixels))
        for block in self._blocks[:-1]:
            x = block(x)
        last = self._blocks[-1]
        q, k, v = last.project(x)
        class_token = last.finish(x[:, :1], last.attend(q[:, :, :1], k, v))
        whole = self._after(class_token[:, 0]) @ self._projection
        if recipe is None:
            return whole, None
        return whole, self._after(recipe(LastBlock(last, x, q, k, v))[:, 1:]) @ self._projection

    def _embedded(self, pixels: Tensor) -> Tensor:
        n, channels, height, width = pixels.shape
        side = self._patch
        rows, columns = height // side, width // side
        # The patches do not overlap, so that the convolution is one matrix product.
        patches = pixels.view(n, channels, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
        tokens = linear(patches.reshape(n, rows * columns, channels * side * side), self._embed)
        return torch.cat([self._class_token.expand(n, 1, -1), tokens], dim=1) + self._positions

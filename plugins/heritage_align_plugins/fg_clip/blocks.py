"""Parts of both generations, under the names that their weights have in the published files."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.activations import ACT2FN

from heritage_align_plugins.fg_clip.description import Tower

FUSED = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
"""Whether this build of torch has oneDNN's product with an activation, which its compiler uses."""


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.heads = tower.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(tower.width, tower.width) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """Attend; ``(n, n_tokens, width)``, mask as of `Layers`."""
        q, k, v = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        attended: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return attended

    def without_mixing(self, x: Tensor) -> Tensor:
        """Return what each token would get if it attended to itself alone."""
        own: Tensor = self.out_proj(self.v_proj(x))
        return own


class Mlp(nn.Module):
    """Widens, activates, narrows."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(tower.width, tower.inner), nn.Linear(tower.inner, tower.width)
        self.activation = ACT2FN[tower.activation]
        self._tanh = tower.activation == "gelu_pytorch_tanh"

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., width)``."""
        narrowed: Tensor = self.fc2(self._widened(x))
        return narrowed

    def _widened(self, x: Tensor) -> Tensor:
        """Return the activations ``(..., inner)``.

        On a CPU GELU takes 8 % of the model's time as an operation of its own, and next to none where oneDNN applies it
        to the product that it has just made. The values are the same to 2e-6. This product has no gradient.
        """
        if self._tanh and x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled() and FUSED:
            fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.fc1.weight, self.fc1.bias, "gelu", [], "tanh")
            return fused
        activated: Tensor = self.activation(self.fc1(x))
        return activated


class Layer(nn.Module):
    """One residual block, norms first."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(tower.width, tower.epsilon)
        self.self_attn = Attention(tower)
        self.layer_norm2 = nn.LayerNorm(tower.width, tower.epsilon)
        self.mlp = Mlp(tower)

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Map ``(n, n_tokens, width)``."""
        return self._finish(x, self.self_attn(self.layer_norm1(x), mask, causal))

    def without_mixing(self, x: Tensor) -> Tensor:
        """Map ``(n, n_tokens, width)``, each token attending to itself alone."""
        return self._finish(x, self.self_attn.without_mixing(self.layer_norm1(x)))

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + attended
        finished: Tensor = x + self.mlp(self.layer_norm2(x))
        return finished


class Layers(nn.Module):
    """The blocks of a tower."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(tower) for _ in range(tower.layers))

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Map ``(n, n_tokens, width)``.

        Args:
            x: tokens.
            mask: ``(n, 1, 1, n_tokens)`` bool, False for padding that nothing attends to.
            causal: tokens attend to those before them alone.
        """
        for layer in self.layers:
            x = layer(x, mask, causal)
        return x

    def but_last(self, x: Tensor) -> Tensor:
        """Map ``(n, n_tokens, width)`` by all blocks but the last."""
        for layer in self.layers[:-1]:
            x = layer(x)
        return x

    def last(self) -> Layer:
        """Return the last block."""
        layer = self.layers[-1]
        assert isinstance(layer, Layer)
        return layer


class PoolingHead(nn.Module):
    """Attention by a learned probe, or by the tokens themselves, and a residual MLP."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.zeros(1, 1, tower.width))
        self.attention = nn.MultiheadAttention(tower.width, tower.heads, batch_first=True)
        self.layernorm = nn.LayerNorm(tower.width, tower.epsilon)
        self.mlp = Mlp(tower)

    def pooled(self, tokens: Tensor, padding: Tensor | None) -> Tensor:
        """Return one vector a picture ``(n, width)``."""
        return self._attend(self.probe.expand(len(tokens), -1, -1), tokens, padding)[:, 0]

    def dense(self, tokens: Tensor, padding: Tensor | None) -> Tensor:
        """Return one vector a token ``(n, n_tokens, width)``."""
        return self._attend(tokens, tokens, padding)

    def _attend(self, queries: Tensor, tokens: Tensor, padding: Tensor | None) -> Tensor:
        """Attend; `padding` ``(n, n_tokens)`` bool is True where nothing attends to."""
        x = self.attention(queries, tokens, tokens, key_padding_mask=padding, need_weights=False)[0]
        finished: Tensor = x + self.mlp(self.layernorm(x))
        return finished


class TextPositions(nn.Module):
    """Embeddings of tokens and their places; long texts have places of their own, the first of which are kept.

    Args:
        width: of the tokens.
        vocabulary: tokens.
        short: places of short texts.
        long: places of long texts.
        kept: places of long texts that are taken from ``position_embedding_ori``, the others from ``_res``.
    """

    def __init__(self, width: int, vocabulary: int, short: int, long: int, kept: int) -> None:
        super().__init__()
        self._kept = kept
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.position_embedding = nn.Embedding(short, width)
        self.position_embedding_res = nn.Embedding(long, width)
        self.position_embedding_ori = nn.Embedding(long, width)

    def forward(self, ids: Tensor, *, long: bool) -> Tensor:
        """Return ``(n, length, width)`` of token numbers ``(n, length)``."""
        places = self.position_embedding.weight
        if long:
            first, rest = self.position_embedding_ori.weight, self.position_embedding_res.weight
            places = torch.cat([first[: self._kept], rest[self._kept :]])
        embedded: Tensor = self.token_embedding(ids) + places[: ids.shape[1]]
        return embedded

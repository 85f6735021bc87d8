"""The BERT of a Chinese-CLIP model for inference: cn_clip's numbers without the work on padding.

cn_clip pads every text to 52 tokens, and a noun phrase has five. Here all tokens of a batch stand in one
matrix, text after text, and only the attention sees them as a padded batch, of the longest text's length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear, relu, scaled_dot_product_attention, silu

from heritage_align_plugins.cn_clip.vision import Convert, Norm

if TYPE_CHECKING:
    from cn_clip.clip.model import CLIP
    from cn_clip.clip.modeling_bert import BertLayer

ACTIVATION_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "relu": relu,
    "swish": silu,
    "gelu_new": lambda x: gelu(x, approximate="tanh"),
}


class Packing:
    """Where the tokens of a padded batch stand in the packed matrix.

    Args:
        tokens: ``(n, length)`` ids, 0 for padding, a token in every row's first place; on the CPU, for on a GPU the
            host would wait for each number that a shape depends on.
        device: where the packed matrix is.
    """

    def __init__(self, tokens: Tensor, device: torch.device) -> None:
        present = tokens != 0
        present = present[:, : int(present.sum(1).max())]
        places = present.flatten().nonzero()[:, 0]
        positions = places % present.shape[1]
        self.shape = present.shape
        self.tokens = tokens[:, : present.shape[1]].flatten()[places].to(device)
        self.mask = None if bool(present.all()) else present[:, None, None].to(device)
        self.places, self.positions = places.to(device), positions.to(device)
        self.first = (positions == 0).nonzero()[:, 0].to(device)

    def pad(self, packed: Tensor) -> Tensor:
        """Turn ``(n_tokens, width)`` into ``(n, length, width)``, zeros in the gaps."""
        n, length = self.shape
        if self.mask is None:
            return packed.view(n, length, -1)
        padded = packed.new_zeros(n * length, packed.shape[1])
        return padded.index_copy_(0, self.places, packed).view(n, length, -1)

    def pack(self, padded: Tensor) -> Tensor:
        """Undo `pad`."""
        flat = padded.flatten(0, 1)
        return flat if self.mask is None else flat[self.places]


class Layer:
    """One BERT layer: attention and MLP, each followed by its normalisation."""

    def __init__(self, layer: BertLayer, activation: str, convert: Convert) -> None:
        attention = layer.attention.self
        parts = (attention.query, attention.key, attention.value)
        self._heads = attention.num_attention_heads
        self._in = convert(torch.cat([p.weight for p in parts])), convert(torch.cat([p.bias for p in parts]))
        dense, widen, narrow = layer.attention.output.dense, layer.intermediate.dense, layer.output.dense
        self._out, self._widen, self._narrow = (
            (convert(part.weight), convert(part.bias)) for part in (dense, widen, narrow)
        )
        self._after_attention = Norm(layer.attention.output.LayerNorm, convert)
        self._after_mlp = Norm(layer.output.LayerNorm, convert)
        self._activation = ACTIVATION_FUNCTIONS[activation]

    def __call__(self, x: Tensor, packing: Packing, first_only: bool) -> Tensor:
        """Return all tokens ``(n_tokens, width)``, or with `first_only` each text's first ``(n, width)``."""
        n, length = packing.shape
        width = x.shape[1]
        split = packing.pad(linear(x, *self._in)).view(n, length, 3, self._heads, width // self._heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind()
        if first_only:
            q, x = q[:, :, :1], x[packing.first]
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=packing.mask).transpose(1, 2).flatten(2)
        x = self._after_attention(linear(mixed[:, 0] if first_only else packing.pack(mixed), *self._out) + x)
        return self._after_mlp(linear(self._activation(linear(x, *self._widen)), *self._narrow) + x)


class TextTower:
    """Encodes tokenised texts with the weights of a cn_clip model."""

    def __init__(self, model: CLIP, convert: Convert) -> None:
        embeddings = model.bert.embeddings
        self._words = convert(embeddings.word_embeddings.weight)
        # Every token is of sentence type 0, so that its embedding joins that of the position.
        self._positions = convert(embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0])
        self._norm = Norm(embeddings.LayerNorm, convert)
        activation = model.bert_config.hidden_act
        self._layers = [Layer(layer, activation, convert) for layer in model.bert.encoder.layer]
        self._projection = convert(model.text_projection)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return ``(n, dim)`` on the tower's device, not normalised, of `tokens` ``(n, length)`` int64 on the CPU."""
        packing = Packing(tokens, self._words.device)
        x = self._norm(self._words[packing.tokens] + self._positions[packing.positions])
        for layer in self._layers[:-1]:
            x = layer(x, packing, first_only=False)
        return self._layers[-1](x, packing, first_only=True) @ self._projection

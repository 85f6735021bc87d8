"""The BERT of a cn_clip model with gradients: no work on padding, fused attention, the last layer for [CLS] alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from heritage_align_plugins.cn_clip.text import ACTIVATION_FUNCTIONS, Packing

if TYPE_CHECKING:
    from cn_clip.clip.model import CLIP
    from cn_clip.clip.modeling_bert import BertLayer


def encode_texts(model: CLIP, tokens: Tensor, *, checkpointing: bool = False) -> Tensor:
    """Encode texts as ``model.encode_text`` does; dropout, where the model trains with it, draws other numbers.

    Args:
        model: the whole model; gradients reach the parameters of its BERT and its text projection.
        tokens: ``(n, length)`` int64, 0 for padding, a token in every row's first place; see `Packing` where they are.
        checkpointing: recompute layers in the backward pass instead of keeping what is inside them.

    Returns:
        ``(n, dim)``, not normalised.
    """
    embeddings = model.bert.embeddings
    packing = Packing(tokens, embeddings.word_embeddings.weight.device)
    x = embeddings.word_embeddings(packing.tokens) + embeddings.position_embeddings(packing.positions)
    # Every token is of sentence type 0.
    x = embeddings.dropout(embeddings.LayerNorm(x + embeddings.token_type_embeddings.weight[0]))
    *layers, last = model.bert.encoder.layer
    activation = model.bert_config.hidden_act
    for layer in layers:
        if checkpointing:
            x = checkpoint(_layer, layer, activation, x, packing, False, use_reentrant=False)
        else:
            x = _layer(layer, activation, x, packing, False)
    return _layer(last, activation, x, packing, True) @ model.text_projection


def _layer(layer: BertLayer, activation: str, x: Tensor, packing: Packing, first_only: bool) -> Tensor:
    """Return all tokens ``(n_tokens, width)``, or with `first_only` each text's first ``(n, width)``."""
    attention, after = layer.attention.self, layer.attention.output
    parts = (attention.query, attention.key, attention.value)
    weight, bias = torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])
    split = packing.pad(linear(x, weight, bias)).unflatten(2, (3, attention.num_attention_heads, -1))
    q, k, v = split.permute(2, 0, 3, 1, 4).unbind()
    if first_only:
        q, x = q[:, :, :1], x[packing.first]
    chance = attention.dropout.p if layer.training else 0.0
    mixed = scaled_dot_product_attention(q, k, v, attn_mask=packing.mask, dropout_p=chance).transpose(1, 2).flatten(2)
    mixed = mixed[:, 0] if first_only else packing.pack(mixed)
    x = after.LayerNorm(after.dropout(after.dense(mixed)) + x)
    inner = ACTIVATION_FUNCTIONS[activation](layer.intermediate.dense(x))
    return layer.output.LayerNorm(layer.output.dropout(layer.output.dense(inner)) + x)

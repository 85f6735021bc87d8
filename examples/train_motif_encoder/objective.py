"""What the encoder is trained for: pictures with captions, details and patches with their phrases."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from batches import Views
from cn_clip.clip import _tokenizer
from cn_clip.clip.model import CLIP, ResidualAttentionBlock
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize

MAX_LOGIT_SCALE = 4.6052  # ln 100, CLIP's clamp


def _block(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    attention = block.attn
    joint = linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = joint.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    # 65 tokens: the products written out take 0.86 s of CPU time a batch of 128 with gradients, the fused
    # attention 1.28 s (torch 2.15, bf16, one core of an AMD EPYC).
    weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1).to(v.dtype)
    x = x + attention.out_proj((weights @ v).transpose(1, 2).flatten(2))
    return x + block.mlp(block.ln_2(x))


def encode_views(model: CLIP, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Encode ``(n, 3, side, side)`` into views ``(n, dim)`` and patches ``(n, n_patches, dim)``, unit rows.

    The same function as ``model.encode_image``, and beside it the patches through the last block as it is
    ("plain"), which is how their loss trains them.
    """
    visual = model.visual
    tokens = visual.conv1(pixels).flatten(2).transpose(1, 2)
    first = visual.class_embedding.to(tokens.dtype).expand(len(tokens), 1, -1)
    x = visual.ln_pre(torch.cat([first, tokens], 1) + visual.positional_embedding)
    for block in visual.transformer.resblocks:
        x = _block(block, x)
    joint = normalize((visual.ln_post(x) @ visual.proj).float(), dim=-1)
    return joint[:, 0], joint[:, 1:]


class Words:
    """Tokenises texts, each of them once."""

    def __init__(self, context_length: int) -> None:
        self._length = context_length
        self._known: dict[str, list[int]] = {}

    def __call__(self, texts: list[str]) -> Tensor:
        """Return ``(n, longest)`` int64 with [CLS] and [SEP], 0 for padding."""
        rows = []
        for text in texts:
            if text not in self._known:
                inner = _tokenizer.convert_tokens_to_ids(_tokenizer.tokenize(text))[: self._length - 2]
                self._known[text] = [_tokenizer.vocab["[CLS]"], *inner, _tokenizer.vocab["[SEP]"]]
            rows.append(self._known[text])
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


def encode_texts(model: CLIP, tokens: Tensor) -> Tensor:
    """Encode ``(n, length)`` token ids; return ``(n, dim)`` unit rows."""
    return normalize(model.encode_text(tokens).float(), dim=-1)


@dataclass
class Losses:
    """The four parts of the loss and their sum, scalars."""

    pictures: Tensor
    details: Tensor
    motifs: Tensor
    patches: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum; every part is a cross-entropy, and no weights were tried."""
        return self.pictures + self.details + self.motifs + self.patches


def _info_nce(views: Tensor, texts: Tensor, same: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE; equal texts share the target, as two details often show the same motif."""
    logits = scale * views @ texts.T
    target = same / same.sum(1, keepdim=True)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def losses(model: CLIP, pixels: Tensor, views: Views, words: Words) -> Losses:
    """Compute the loss of one batch.

    Pictures are contrasted with captions, details with their texts, both within the batch. Single motifs and
    patches are contrasted with all noun phrases of the batch: a dozen of them share the colour, so that the
    shape is learned, which the other two hardly ask for.

    Args:
        model: the encoder.
        pixels: the views' pixels, ``(n, 3, side, side)``, normalised.
        views: the batch.
        words: the tokeniser.
    """
    device = pixels.device
    encoded, patches = encode_views(model, pixels)
    scale = model.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
    first = len(views.texts) - len(views.view_phrases)
    parts = []
    for part in (slice(0, first), slice(first, None)):
        distinct = {text: k for k, text in enumerate(dict.fromkeys(views.texts[part]))}
        which = torch.tensor([distinct[text] for text in views.texts[part]], device=device)
        texts = encode_texts(model, words(list(distinct)).to(device))
        same = (which[:, None] == which[None]).float()
        parts.append(_info_nce(encoded[part], texts[which], same, scale))
    names = encode_texts(model, words(views.phrases).to(device))
    for features, labels in ((encoded[first:], views.view_phrases), (patches, views.patch_phrases)):
        target = torch.from_numpy(labels).to(device)
        known = target >= 0
        parts.append(cross_entropy(scale * features[known] @ names.T, target[known]))
    return Losses(*parts)

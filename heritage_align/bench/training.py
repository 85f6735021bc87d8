"""One training step with the hardest negative: mined pairs against autograd through all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from heritage_align import ops

from . import peers
from .case import Contender, Setup, captions, compare, equal_items


def mined_pairs(batch: int, device: torch.device, *, m: int = 36, dim: int = 1024) -> Setup:
    """Gradients of SCAN t2i's hinge with respect to all regions and words, float32."""
    plain_images, plain_texts = equal_items(batch, m, dim, device, 3), captions(batch, dim, device, 4)
    regions, words = plain_images.values.requires_grad_(), plain_texts.values.requires_grad_()
    images, texts = ops.Ragged(regions, plain_images.offsets), ops.Ragged(words, plain_texts.offsets)

    def gradients(scores: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(ops.hardest_negative_hinge(scores), [regions, words])

    def mined() -> tuple[Tensor, ...]:
        return gradients(ops.focal_attention_score(images, texts))

    mining = torch.float16 if device.type == "cuda" else torch.bfloat16

    def mined_from_rounded() -> tuple[Tensor, ...]:
        return gradients(ops.mining_scores(images, texts, dtype=mining))

    def everything() -> tuple[Tensor, ...]:
        return gradients(peers.scan_per_caption(regions.view(batch, m, dim), texts))

    def check() -> float:
        return max(compare(ours, theirs, 1e-4) for ours, theirs in zip(mined(), everything()))

    return Setup(
        f"batch {batch}, m={m}, D={dim}, t2i",
        Contender(mined, check),
        {
            "bare": Contender(everything, graph=False),
            f"mined from {str(mining).removeprefix('torch.')}": Contender(mined_from_rounded),
        },
    )

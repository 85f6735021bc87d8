"""The gradient of focal attention in float64, which the kernels on the CPU, emulated and on a GPU are held to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from heritage_align import ops
from heritage_align.ops import reference


def with_grad(ragged: ops.Ragged) -> ops.Ragged:
    """The same items, whose rows are a leaf of their own."""
    return ops.Ragged(ragged.values.clone().requires_grad_(), ragged.offsets)


def grad_of_a_third(images: ops.Ragged, texts: ops.Ragged, candidates: torch.Tensor | None) -> torch.Tensor:
    """Random gradients of the scores, on the CPU; about two thirds are 0."""
    shape = (len(images), len(texts)) if candidates is None else tuple(candidates.shape)
    generator = torch.Generator().manual_seed(60)
    return torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.3)


def oracle(
    images: ops.Ragged, texts: ops.Ragged, grad: torch.Tensor, **config: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Autograd through the reference in float64, over the scores that are finite: of the regions, of the words."""
    wide = [ops.Ragged(items.dequantised().double().requires_grad_(), items.offsets) for items in (images, texts)]
    scores = reference.focal_attention_score(*wide, **config)
    finite = torch.isfinite(scores)
    # What a finite score reaches has a gradient; the zeros give one to the rest.
    nothing = 0 * (wide[0].values.sum() + wide[1].values.sum())
    loss = (scores[finite] * grad[finite]).sum() + nothing
    regions, words = torch.autograd.grad(loss, [items.values for items in wide])
    return regions, words


def assert_gradients(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], tolerance: float = 2e-5) -> None:
    """Errors are in units of the largest entry, at least 1."""
    for ours, theirs in zip(found, expected):
        largest = 1.0 if theirs.numel() == 0 else max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(ours.double(), theirs, atol=tolerance * largest, rtol=0)

"""Training with the hardest negative: mine with the fused kernel, differentiate only what was mined."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks, codes, inputs
from .backend import pick
from .factor import triangular_factor
from .focal_arguments import FocalArguments
from .focal_attention import focal_attention_score
from .ragged import Ragged
from .registration import recall, remember


def hardest_negative_hinge(scores: Tensor, *, margin: float = 0.2) -> Tensor:
    """Sum over the batch of both hinges with their hardest negative (VSE++, Faghri et al. 2018, eq. 6; SCAN's loss).

    ``sum_k [margin + max_{j != k} S_kj - S_kk]+ + [margin + max_{i != k} S_ik - S_kk]+``. At most three scores a row
    have a gradient, and the backward of the ops computes nothing for the others; so a training step is

        scores = ops.focal_attention_score(images, texts)       # the fused kernel, all pairs
        ops.hardest_negative_hinge(scores).backward()           # the mined pairs alone

    Args:
        scores: ``(batch, batch)`` floating, image i belongs to text i.
        margin: 0 or greater.

    Returns:
        A scalar; 0 for a batch of one, which has no negative.

    Raises:
        ValueError: if ``scores`` is not square.
    """
    checks.tensor("scores", scores, shape=(None, None))
    checks.tensor("scores", scores, shape=(scores.shape[0], scores.shape[0]))
    margin = checks.number("margin", margin)
    positive = scores.diagonal()
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    negatives = scores.masked_fill(own, float("-inf"))
    hardest = torch.stack([negatives.amax(dim=1), negatives.amax(dim=0)])  # of each image, of each text
    return (margin + hardest - positive).relu().sum()


def mining_scores(
    images: Ragged,
    texts: Ragged,
    *,
    dtype: torch.dtype = torch.float16,
    direction: str = "t2i",
    rectifier: str = "leaky_relu",
    normalise: str = "l2",
    temperature: float = 9.0,
    focal: str | None = None,
    keep: Tensor | None = None,
    aggregate: str = "lse",
    lse_scale: float = 6.0,
) -> Tensor:
    """Score all pairs from rows rounded to ``dtype``, with the gradient of the rows as they are.

    float32 rows are multiplied on a GPU's CUDA cores, float16 rows on its tensor cores. For a loss that looks at few
    scores, all pairs are what a step costs, so they may be scored the faster way:

        ops.hardest_negative_hinge(ops.mining_scores(images, texts)).backward()

    What is the same as with :func:`focal_attention_score`, and what is not, with d the largest error that rounding the
    rows leaves in a score (on random unit rows of 1024 numbers 2e-5 for float16 and 2e-4 for bfloat16; more where a
    focal filter, or a norm of few cosines near 0, turns over): the gradient of a score is that of the exact one. A
    hinge's value differs by at most 2 d; another negative is mined only where two lie within 2 d, and a hinge is on
    where it would be off only within 2 d of 0.

    Args:
        images: regions, float32, rows ``(total_regions, dim)`` of unit length as a rule.
        texts: words or phrases, float32, rows ``(total_words, dim)``.
        dtype: torch.float16 or torch.bfloat16.
        direction, rectifier, normalise, temperature, focal, keep, aggregate, lse_scale: as in
            :func:`focal_attention_score`.

    Returns:
        float32 ``(n_images, n_texts)``. Where there are no compiled kernels, the exact scores.

    Raises:
        ValueError: if an argument does not fit; the message names it.
    """
    inputs.ragged("images", images)
    inputs.ragged("texts", texts)
    checks.refuse_vmap("mining_scores", images.values, texts.values)
    for name, rows in (("images", images), ("texts", texts)):
        checks.tensor(f"{name}.values", rows.values, shape=(None, None), dtypes=(torch.float32,))
    checks.choice("dtype", dtype, (torch.float16, torch.bfloat16))
    settings: dict[str, Any] = {
        "direction": direction,
        "rectifier": rectifier,
        "normalise": normalise,
        "temperature": temperature,
        "focal": focal,
        "keep": keep,
        "aggregate": aggregate,
        "lse_scale": lse_scale,
    }
    if pick("auto", images.device, (torch.float32,)) == "reference":
        return focal_attention_score(images, texts, **settings)
    on_gpu = images.device.type == "cuda"
    with torch.no_grad():
        image_factor = text_factor = None
        if on_gpu or not torch.compiler.is_compiling():  # of the rows as they are: the backward takes them too
            image_factor = triangular_factor(images) if direction != "i2t" else None
            text_factor = triangular_factor(texts) if direction != "t2i" else None
        scores = focal_attention_score(
            images.to(dtype=dtype),
            texts.to(dtype=dtype),
            image_factor=image_factor,
            text_factor=text_factor,
            **settings,
        )
    return _WithGradient.apply(
        scores,
        *FocalArguments.of(
            images,
            texts,
            (images.values, texts.values),
            keep,
            (image_factor, text_factor),
            None,
            (
                codes.DIRECTIONS[direction],
                codes.RECTIFIERS[rectifier],
                codes.NORMALISERS[normalise],
                codes.FOCALS[focal],
                codes.AGGREGATES[aggregate],
            ),
            float(temperature),
            float(lse_scale),
            for_cuda=on_gpu,
        ),
    )


class _WithGradient(torch.autograd.Function):
    """Scores as they are given, with the gradient that focal attention of these rows has."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, *arguments: Any) -> Tensor:
        remember(ctx, arguments, scores)
        return scores.view_as(scores)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        args = FocalArguments(*recall(ctx))
        args = args._replace(regions=inputs.rows(args.regions), words=inputs.rows(args.words))
        of_regions, of_words = torch.ops.heritage_align.focal_attention_backward(grad.contiguous(), *args)
        return None, *FocalArguments.gradients(of_regions, of_words)

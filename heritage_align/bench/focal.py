"""Focal attention: SCAN and BFAN over all pairs and over candidates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from heritage_align import ops
from heritage_align.ops import reference

from . import peers
from .case import (
    Contender,
    Setup,
    candidate_size,
    captions,
    compare,
    equal_items,
    picks,
    size,
    stored,
    top10_agreement,
    wide,
)
from .timing import Work

Settings = dict[str, Any]
SCAN: Settings = {}
BFAN: Settings = {"direction": "both", "focal": "equal", "aggregate": "mean", "temperature": 20.0}
PUBLISHED = "per caption (published)"
COMPILED = "torch.compile"


def all_pairs(
    n_images: int,
    n_texts: int,
    device: torch.device,
    dtype: str,
    settings: Settings,
    *,
    m: int = 36,
    dim: int = 1024,
    published: bool = False,
    in_float32: bool = False,
) -> Setup:
    """All pairs, against the bare product of the same rows that writes C.

    Args:
        n_images: of ``m`` regions.
        n_texts: of 5 to 21 words.
        device: where to score.
        dtype: how the features are stored.
        settings: of :func:`heritage_align.ops.focal_attention_score`.
        m: regions an image.
        dim: numbers a row.
        published: also the published structure and, for SCAN, the vectorised form by torch.compile.
        in_float32: also the agreement of the top 10 with the features before they were stored, and on the CPU, for
            int8, the time of our kernel on these.
    """
    float_images, float_texts = equal_items(n_images, m, dim, device, 3), captions(n_texts, dim, device, 4)
    images, texts = stored(float_images, dtype), stored(float_texts, dtype)
    ours = partial(_score, images, texts, settings, ops.triangular_factor(images), ops.triangular_factor(texts))
    few = min(8 if device.type == "cpu" else 32, n_images, n_texts)
    some_images, some_texts = images.select(range(few)), texts.select(range(few))

    def expected() -> Tensor:
        return reference.focal_attention_score(wide(some_images), wide(some_texts), **settings)

    def check(scores: Callable[[], Tensor], tolerance: float) -> float:
        return compare(scores()[:few, :few], expected(), tolerance, strays=_strays(settings))

    others = {"bare": Contender(bare_product(images, texts))}
    in_half = dtype != "float32"
    if published:
        theirs = peers.scan_per_caption if settings == SCAN else peers.bfan_per_caption
        padded, some_padded = images.values.view(n_images, m, dim), some_images.values.view(few, m, dim)
        tolerance = 2e-2 if in_half else 1e-4
        others[PUBLISHED] = Contender(
            partial(theirs, padded, texts), partial(check, partial(theirs, some_padded, some_texts), tolerance), False
        )
    if published and settings == SCAN:
        vectorised = partial(peers.compiled(peers.scan_padded), padded, *peers.padded_words(texts))
        others[COMPILED] = Contender(vectorised, partial(check, vectorised, tolerance))
    agreement = None
    if in_float32:
        factor = ops.triangular_factor(float_images)
        plain = partial(ops.focal_attention_score, float_images, float_texts, image_factor=factor, **settings)
        if dtype == "int8" and device.type == "cpu":
            others["ours in float32"] = Contender(plain)

        def agreement() -> float:
            return top10_agreement(ours(), plain())

    return Setup(
        f"{n_images} images x {n_texts} captions ({texts.total} words), m={m}, D={dim}",
        Contender(ours, partial(check, ours, _tolerance(device))),
        others,
        flops=2.0 * images.total * texts.total * dim,
        bytes=size(images) + size(texts),
        agreement=agreement,
    )


def rerank(
    n_texts: int,
    k: int,
    n_images: int,
    device: torch.device,
    dtype: str,
    settings: Settings,
    *,
    m: int = 36,
    dim: int = 1024,
) -> Setup:
    """``k`` candidate images a caption; the floor counts the images that occur, each with its factor, once."""
    images = stored(equal_items(n_images, m, dim, device, 3), dtype)
    texts = stored(captions(n_texts, dim, device, 4), dtype)
    candidates = picks(n_texts, k, n_images, device, 5)
    image_factor, text_factor = ops.triangular_factor(images), ops.triangular_factor(texts)
    ours = partial(_score, images, texts, settings, image_factor, text_factor, candidates)

    def check() -> float:
        some = candidates[0, :32]
        first = wide(texts.select([0]))
        expected = reference.focal_attention_score(wide(images.select(some)), first, **settings)
        return compare(ours()[0, :32], expected[:, 0], _tolerance(device), strays=_strays(settings))

    touched = candidate_size(images, candidates)
    return Setup(
        f"{n_texts} x {k} of {n_images} images, m={m}, D={dim}",
        Contender(ours, check),
        flops=2.0 * texts.total * k * m * dim,
        bytes=touched * (1 + 4 * len(image_factor) / size(images)),
        floor=True,
    )


def _score(
    images: ops.Ragged,
    texts: ops.Ragged,
    settings: Settings,
    image_factor: Tensor,
    text_factor: Tensor,
    candidates: Tensor | None = None,
) -> Tensor:
    return ops.focal_attention_score(
        images, texts, image_factor=image_factor, text_factor=text_factor, candidates=candidates, **settings
    )


def _tolerance(device: torch.device) -> float:
    """Difference from the reference on the same rounded features; tensor cores may see weights in float16."""
    return 1e-5 if device.type == "cpu" else 2e-4


def _strays(settings: Settings) -> float:
    """Share of pairs with a region within rounding of the focal filter's threshold, which may go either way."""
    return 0.02 if settings.get("focal") else 0.0


def bare_product(images: ops.Ragged, texts: ops.Ragged) -> Work:
    """The matrix product alone, writing C in the type of its operands (int32 for int8)."""
    if images.dtype == torch.int8:
        if images.device.type == "cuda":
            rows = texts.values[: texts.total // 8 * 8]
            return lambda: torch._int_mm(images.values, rows.T)
        return lambda: torch._int_mm(texts.values, images.values.T)
    return lambda: texts.values @ images.values.T

"""Scores of rounded rows with the gradient of the exact ones."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from heritage_align import ops
from heritage_align.ops.backend import MISSING

with_grad = runpy.run_path(str(Path(__file__).parent / "emulation" / "gradients.py"))["with_grad"]

MakeRagged = Callable[..., ops.Ragged]
needs_kernels = pytest.mark.skipif(MISSING["cpu"] is not None, reason=f"no CPU kernels: {MISSING['cpu']}")


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("config", [{}, {"direction": "both", "focal": "equal", "aggregate": "mean"}])
def test_scores_are_those_of_the_rounded_rows(
    make_ragged: MakeRagged, dtype: torch.dtype, config: dict[str, Any]
) -> None:
    images, texts = make_ragged([36, 9, 0, 20], 64), make_ragged([3, 13, 6, 5], 64, 1)
    ours = ops.mining_scores(images, texts, dtype=dtype, **config)
    rounded = ops.focal_attention_score(images.to(dtype=dtype), texts.to(dtype=dtype), **config)
    # The factor is of the rows as they are, so lengths differ by their rounding.
    torch.testing.assert_close(ours, rounded, atol=1e-3 if dtype == torch.float16 else 1e-2, rtol=0)
    assert not torch.equal(ours, ops.focal_attention_score(images, texts, **config))


@pytest.mark.parametrize("config", [{}, {"direction": "both", "focal": "equal", "temperature": 20.0}])
def test_the_gradient_of_a_score_is_that_of_the_exact_one(make_ragged: MakeRagged, config: dict[str, Any]) -> None:
    images, texts = with_grad(make_ragged([36, 9, 0, 20], 64)), with_grad(make_ragged([3, 13, 6, 5], 64, 1))
    keep = torch.arange(images.values.shape[0]) % 3 != 0
    grad = torch.randn(4, 4, generator=torch.Generator().manual_seed(2))
    leaves = [images.values, texts.values]
    exact = torch.autograd.grad(ops.focal_attention_score(images, texts, keep=keep, **config), leaves, grad)
    ours = torch.autograd.grad(ops.mining_scores(images, texts, keep=keep, **config), leaves, grad)
    assert all(torch.equal(*both) for both in zip(ours, exact))


def test_the_hinge_of_far_negatives_has_the_exact_gradient(make_ragged: MakeRagged) -> None:
    images, texts = with_grad(make_ragged([7] * 6, 48)), with_grad(make_ragged([4] * 6, 48, 1))
    leaves = [images.values, texts.values]
    losses = [
        ops.hardest_negative_hinge(score(images, texts)) for score in (ops.focal_attention_score, ops.mining_scores)
    ]
    torch.testing.assert_close(losses[1], losses[0], atol=6 * 4 * 1e-3, rtol=0)
    exact, ours = (torch.autograd.grad(loss, leaves) for loss in losses)
    assert all(torch.equal(*both) for both in zip(ours, exact))


@needs_kernels
def test_a_strided_side_and_a_frozen_one(make_ragged: MakeRagged) -> None:
    images, texts = make_ragged([7, 2], 48), with_grad(make_ragged([4, 5], 48, 1))
    strided = ops.Ragged(images.values.T.contiguous().T, images.offsets)
    ops.mining_scores(strided, texts).sum().backward()
    (expected,) = torch.autograd.grad(ops.focal_attention_score(images, texts).sum(), [texts.values])
    assert texts.values.grad is not None
    assert torch.equal(texts.values.grad, expected)
    assert not ops.mining_scores(images, images).requires_grad


@needs_kernels
def test_compile_without_graph_breaks(make_ragged: MakeRagged) -> None:
    images, texts = with_grad(make_ragged([7, 2], 48)), with_grad(make_ragged([4, 5], 48, 1))

    def loss(regions: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        sides = ops.Ragged(regions, images.offsets), ops.Ragged(words, texts.offsets)
        return ops.hardest_negative_hinge(ops.mining_scores(*sides, direction="both"))

    leaves = [images.values, texts.values]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(loss(*leaves), leaves)
    torch.testing.assert_close(torch.autograd.grad(compiled(*leaves), leaves), expected)


def test_bad_input(make_ragged: MakeRagged) -> None:
    images, texts = make_ragged([7, 2], 48), make_ragged([4, 5], 48, 1)
    with pytest.raises(ValueError, match=r"dtype must be one of torch.float16, torch.bfloat16; got torch.float32"):
        ops.mining_scores(images, texts, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"texts\.values must have dtype float32"):
        ops.mining_scores(images, texts.to(dtype=torch.float16))
    with pytest.raises(ValueError, match="direction must be one of"):
        ops.mining_scores(images, texts, direction="t2v")
    with pytest.raises(ValueError, match="images and texts must have rows of one length"):
        ops.mining_scores(images, make_ragged([4, 5], 47))

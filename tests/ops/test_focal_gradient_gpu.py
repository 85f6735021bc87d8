"""The gradient of focal attention on a GPU, against autograd through the reference in float64 on the same device."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from heritage_align import ops

EMULATION = Path(__file__).parent / "emulation"
cases = SimpleNamespace(**runpy.run_path(str(EMULATION / "cases.py")))
gradients = SimpleNamespace(**runpy.run_path(str(EMULATION / "gradients.py")))

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU that torch can use"),
]


def ragged(lengths: list[int], dim: int, seed: int, dtype: torch.dtype = torch.float32) -> ops.Ragged:
    made: ops.Ragged = cases.ragged(lengths, dim, seed, dtype)
    return made.to(device="cuda")


def assert_gradients(images: ops.Ragged, texts: ops.Ragged, tolerance: float, **config: Any) -> None:
    """About a third of the scores have a gradient; errors are in units of the largest entry, at least 1."""
    grad = gradients.grad_of_a_third(images, texts, config.get("candidates")).cuda()
    ours = [gradients.with_grad(side) for side in (images, texts)]
    scores = ops.focal_attention_score(*ours, backend="cuda", **config)
    found = torch.autograd.grad(scores, [side.values for side in ours], grad)
    again = ops.focal_attention_score(*ours, backend="cuda", **config)
    assert all(torch.equal(*both) for both in zip(found, torch.autograd.grad(again, [s.values for s in ours], grad)))
    assert all(gradient.dtype == images.dtype for gradient in found)
    gradients.assert_gradients(found, gradients.oracle(images, texts, grad, **config), tolerance)


@pytest.mark.parametrize("direction", ["t2i", "i2t", "both"])
@pytest.mark.parametrize("shape", cases.SHAPES)
def test_all_shapes(shape: str, direction: str) -> None:
    regions, words, dim = cases.SHAPES[shape]
    assert_gradients(ragged(regions, dim, 1), ragged(words, dim, 2), 1e-3, direction=direction)


@pytest.mark.parametrize("focal", [None, "equal", "prob", "sheng"])
@pytest.mark.parametrize(("rectifier", "normalise"), [("leaky_relu", "l2"), ("relu", "softmax"), ("none", "none")])
def test_all_settings(rectifier: str, normalise: str, focal: str | None) -> None:
    images, texts = ragged([36, 5, 0, 20], 64, 3), ragged([3, 12, 6, 0, 4], 64, 4)
    keep = torch.rand(images.total, generator=torch.Generator().manual_seed(5)) < 0.6
    ids = cases.candidate_lists(5, 4, 6, 61).cuda()
    for aggregate in ("lse", "mean", "max", "sum"):
        config = {"rectifier": rectifier, "normalise": normalise, "focal": focal, "aggregate": aggregate}
        assert_gradients(images, texts, 5e-5, direction="both", keep=keep.cuda(), temperature=4.0, **config)
        assert_gradients(images, texts, 5e-5, direction="both", candidates=ids, **config)


def test_many_pairs_of_a_usual_size() -> None:
    assert_gradients(ragged([36] * 40, 1024, 7), ragged([13, 5, 20, 9] * 10, 1024, 8), 5e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_stored_rows(dtype: torch.dtype) -> None:
    assert_gradients(ragged([36, 5], 64, 3, dtype), ragged([3, 12, 6], 64, 4, dtype), 2e-2, direction="both")


def test_a_step_with_mined_pairs_waits_for_nothing_and_replays() -> None:
    images, texts = ragged([36] * 32, 128, 9), ragged([13, 5, 20, 9] * 8, 128, 10)
    regions, words = (side.values.requires_grad_() for side in (images, texts))
    images, texts = ops.Ragged(regions, images.offsets), ops.Ragged(words, texts.offsets)

    def step() -> tuple[torch.Tensor, ...]:
        loss = ops.hardest_negative_hinge(ops.focal_attention_score(images, texts))
        return torch.autograd.grad(loss, [regions, words])

    expected = step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(one, other) for one, other in zip(captured, expected))

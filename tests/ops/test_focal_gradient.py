"""The gradient of focal attention: by hand, against float64 autograd of the reference, and what it leaves alone."""

from __future__ import annotations

import math
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from heritage_align import ops
from heritage_align.ops.backend import MISSING

pytestmark = pytest.mark.skipif(MISSING["cpu"] is not None, reason=f"no CPU kernels: {MISSING['cpu']}")

checks = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "emulation" / "gradients.py")))
with_grad, oracle, assert_gradients = checks.with_grad, checks.oracle, checks.assert_gradients

MakeRagged = Callable[..., ops.Ragged]
Gradients = tuple[torch.Tensor, torch.Tensor]


def gradients(images: ops.Ragged, texts: ops.Ragged, grad: torch.Tensor, **config: Any) -> Gradients:
    images, texts = with_grad(images), with_grad(texts)
    scores = ops.focal_attention_score(images, texts, backend="cpu", **config)
    regions, words = torch.autograd.grad(scores, [images.values, texts.values], grad)
    return regions, words


def test_two_regions_and_a_word_by_hand() -> None:
    """v = (1, 0), (0, 1), q = (1, 0), temperature ln 3."""
    # C = (1, 0), p = (3/4, 1/4), L = sqrt(10) / 4, r = 3 / sqrt(10).
    images = ops.Ragged(torch.eye(2), torch.tensor([0, 2]))
    texts = ops.Ragged(torch.tensor([[1.0, 0.0]]), torch.tensor([0, 1]))
    config = {"rectifier": "none", "normalise": "none", "temperature": math.log(3), "aggregate": "mean"}
    regions, words = gradients(images, texts, torch.ones(1, 1), **config)
    # n = 4 / sqrt(10), c = -4.8 / sqrt(10), k = -3 / sqrt(10);
    # p' = (0.4, -1.2) / sqrt(10); l' = (0.3, -0.3) / sqrt(10);
    # C' = (3 + 0.3 ln 3, 1 - 0.3 ln 3) / sqrt(10); c p p^T = -0.3 (9, 3; 3, 1) / sqrt(10).
    t = 0.3 * math.log(3)
    torch.testing.assert_close(regions, torch.tensor([[0.3 + t, -0.9], [0.1 - t, -0.3]]) / math.sqrt(10))
    torch.testing.assert_close(words, torch.tensor([[t, 1 - t]]) / math.sqrt(10))


def test_the_l2_normaliser_by_hand() -> None:
    """i2t of one region, v = (1, 0), and two words, (3/5, 4/5) and (1, 0)."""
    # A sole region normalises every cosine to 1 (norm + 1e-8), so both words weigh the same whatever the rows are:
    # a = ((3/5, 4/5) + (1, 0)) / 2 = (0.8, 0.4), r = 0.8 / sqrt(0.8) = sqrt(0.8), and only |a| and v move it.
    images = ops.Ragged(torch.tensor([[1.0, 0.0]]), torch.tensor([0, 1]))
    texts = ops.Ragged(torch.tensor([[0.6, 0.8], [1.0, 0.0]]), torch.tensor([0, 2]))
    regions, words = gradients(images, texts, torch.ones(1, 1), direction="i2t", aggregate="sum")
    root = math.sqrt(0.8)
    # d r / d a = (v - r a / |a|) / |a| = ((1, 0) - (0.8, 0.4)) / root, of which each word has half;
    # d r / d v = a / |a| - r v.
    torch.testing.assert_close(words, torch.tensor([[0.1, -0.2], [0.1, -0.2]]) / root, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(regions, torch.tensor([[0.0, 0.4 / root]]), atol=1e-6, rtol=1e-5)


SETTINGS = {
    "direction": st.sampled_from(["t2i", "i2t", "both"]),
    "rectifier": st.sampled_from(["leaky_relu", "relu", "none"]),
    "normalise": st.sampled_from(["l2", "softmax", "none"]),
    "focal": st.sampled_from([None, "equal", "prob", "sheng"]),
    "aggregate": st.sampled_from(["lse", "mean", "max", "sum"]),
    "temperature": st.sampled_from([0.0, 1.0, 9.0, 20.0]),
    "lse_scale": st.sampled_from([1.0, 6.0]),
}


@pytest.mark.parametrize("focal", [None, "equal", "prob", "sheng"])
@pytest.mark.parametrize("normalise", ["l2", "softmax", "none"])
@pytest.mark.parametrize("rectifier", ["leaky_relu", "relu", "none"])
def test_gradients_of_all_settings(make_ragged: MakeRagged, rectifier: str, normalise: str, focal: str | None) -> None:
    images, texts = make_ragged([36, 9, 0, 17], 64, 5), make_ragged([3, 13, 0, 6], 64, 6)
    grad = torch.randn(4, 4, generator=torch.Generator().manual_seed(7))
    config = {"rectifier": rectifier, "normalise": normalise, "focal": focal, "direction": "both"}
    for aggregate in ("lse", "mean", "max", "sum"):
        found = gradients(images, texts, grad, aggregate=aggregate, **config)
        assert_gradients(found, oracle(images, texts, grad, aggregate=aggregate, **config))


# Where a text or an image has few fragments, a cosine near 0 is divided by a norm near 0: rounding it moves the
# gradient by 1e-7 / |cosine|, in autograd's float32 too. Hence the tolerance, with which a wrong term still shows.
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=st.fixed_dictionaries(SETTINGS),
    regions=st.lists(st.sampled_from([0, 1, 2, 7, 17, 36]), min_size=1, max_size=4),
    words=st.lists(st.sampled_from([0, 1, 3, 5, 17]), min_size=1, max_size=4),
    dim=st.sampled_from([5, 16, 33, 64]),
    keeps=st.booleans(),
    listed=st.booleans(),
    strided=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_gradients_equal_autograd_through_the_reference(
    make_ragged: MakeRagged,
    config: dict[str, Any],
    regions: list[int],
    words: list[int],
    dim: int,
    keeps: bool,
    listed: bool,
    strided: bool,
    seed: int,
) -> None:
    images, texts = make_ragged(regions, dim, seed), make_ragged(words, dim, seed + 1)
    generator = torch.Generator().manual_seed(seed)
    if keeps:
        config["keep"] = torch.rand(images.total, generator=generator) < 0.6
    if listed:
        config["candidates"] = torch.randint(-1, len(images), (len(texts), 3), generator=generator)
    shape = (len(texts), 3) if listed else (len(images), len(texts))
    grad = torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.7)
    if strided:
        images = ops.Ragged(torch.cat([images.values, images.values], dim=1)[:, :dim], images.offsets)
    expected = oracle(images, texts, grad, **config)
    # A filter's threshold, or a rectifier's kink, that rounding decides has no gradient to compare.
    nudged = [
        ops.Ragged(one.values.detach() * (1 + 2e-6 * torch.randn(one.values.shape, generator=generator)), one.offsets)
        for one in (images, texts)
    ]
    for one, other in zip(expected, oracle(*nudged, grad, **config)):
        assume(one.numel() == 0 or (one - other).abs().max() <= 5e-4 * max(1.0, float(one.abs().max())))
    assert_gradients(gradients(images, texts, grad, **config), expected, 1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_stored_dtypes_keep_their_own_for_the_gradient(make_ragged: MakeRagged, dtype: torch.dtype) -> None:
    images, texts = make_ragged([5, 2], 24).to(dtype=dtype), make_ragged([3, 4], 24, 1).to(dtype=dtype)
    grad = torch.tensor([[1.0, -2.0], [0.5, 0.0]])
    found = gradients(images, texts, grad, direction="both")
    assert [one.dtype for one in found] == [dtype, dtype]
    assert_gradients(found, oracle(images, texts, grad, direction="both"), 2e-2)


def test_int8_images_train_their_texts(make_ragged: MakeRagged) -> None:
    images, texts = ops.quantise(make_ragged([5, 2], 24)), with_grad(make_ragged([3, 4], 24, 1))
    grad = torch.tensor([[1.0, -2.0], [0.5, 1.0]])
    scores = ops.focal_attention_score(images, texts, backend="cpu")
    (words,) = torch.autograd.grad(scores, [texts.values], grad)
    torch.testing.assert_close(words.double(), oracle(images, texts, grad)[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("direction", ["t2i", "both"])
def test_pairs_without_a_gradient_are_not_touched(make_ragged: MakeRagged, direction: str) -> None:
    """Rows of NaN in such a pair leave the rest as it is, and have the gradient 0."""
    images, texts = make_ragged([4, 3, 4], 16), make_ragged([3, 2, 3], 16, 1)
    grad = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 2.0]])
    clean = gradients(images, texts, grad, direction=direction)
    images.values[:4] = texts.values[:3] = torch.nan
    found = gradients(images, texts, grad, direction=direction)
    for ours, theirs, rows in zip(found, clean, (4, 3)):
        assert torch.equal(ours[rows:], theirs[rows:])
        assert not ours[:rows].any()


def test_bits_do_not_depend_on_the_threads(make_ragged: MakeRagged) -> None:
    images, texts = make_ragged([36, 20, 7] * 5, 48), make_ragged([5, 13, 1] * 5, 48, 1)
    grad = torch.randn(15, 15, generator=torch.Generator().manual_seed(2))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(gradients(images, texts, grad, direction="both", focal="equal"))
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others))


def test_more_pairs_than_are_kept_at_a_time(make_ragged: MakeRagged) -> None:
    """144 pairs of 120 x 120 leave 18 MB of records, which are made 16 MB at a time."""
    images, texts = make_ragged([120] * 12, 6), make_ragged([120] * 12, 6, 1)
    grad = torch.randn(12, 12, generator=torch.Generator().manual_seed(3))
    assert_gradients(gradients(images, texts, grad), oracle(images, texts, grad), 1e-4)


def test_a_given_factor_is_used(make_ragged: MakeRagged) -> None:
    images, texts = make_ragged([5, 3], 12), make_ragged([3, 4], 12, 1)
    grad = torch.ones(2, 2)
    given = {"image_factor": ops.triangular_factor(images), "text_factor": ops.triangular_factor(texts)}
    found = gradients(images, texts, grad, direction="both", **given)
    assert all(torch.equal(*pair) for pair in zip(found, gradients(images, texts, grad, direction="both")))


def test_a_frozen_side_gets_no_gradient(make_ragged: MakeRagged) -> None:
    images, texts = with_grad(make_ragged([5, 3], 12)), make_ragged([3, 4], 12, 1)
    ops.focal_attention_score(images, texts, backend="cpu").sum().backward()
    assert images.values.grad is not None
    assert texts.values.grad is None
    expected = oracle(images, texts, torch.ones(2, 2))[0]
    torch.testing.assert_close(images.values.grad.double(), expected, atol=1e-5, rtol=1e-5)

"""The ops inside torch: opcheck, torch.compile, gradients, autocast, vmap."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from heritage_align import ops
from heritage_align.ops import codes
from heritage_align.ops.backend import MISSING
from heritage_align.ops.focal_arguments import FocalArguments
from heritage_align.ops.planner import text_bins

pytestmark = pytest.mark.skipif(MISSING["cpu"] is not None, reason=f"no CPU kernels: {MISSING['cpu']}")

MakeRagged = Callable[..., ops.Ragged]
IDS = torch.tensor([[0, 2, -1], [1, 2, 0]])
SETTINGS: list[dict[str, Any]] = [
    {},
    {"direction": "both", "focal": "prob", "aggregate": "mean"},
    {"direction": "i2t", "candidates": IDS},
]


def with_grad(ragged: ops.Ragged) -> ops.Ragged:
    return ops.Ragged(ragged.values.clone().requires_grad_(), ragged.offsets)


def plain(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("needs_grad", [False, True])
def test_opcheck(make_ragged: MakeRagged, needs_grad: bool) -> None:
    images, texts = make_ragged([5, 2, 7], 12), make_ragged([3, 4], 12, 1)
    if needs_grad:
        images, texts = with_grad(images), with_grad(texts)
    queries = texts.values[:2]
    pairs = FocalArguments(
        *(images.values, None, images.offsets, texts.values, None, texts.offsets),
        **{"direction": codes.DIRECTIONS["both"], "focal": codes.FOCALS["prob"]},
    )
    swapped = (texts.values, None, texts.offsets, images.values, None, images.offsets)
    checked = torch.ops.heritage_align
    for ids in (None, IDS):
        args = pairs._replace(candidates=ids)
        torch.library.opcheck(checked.focal_attention.default, (*args, None, None))
        grad = torch.ones(3, 2) if ids is None else torch.ones(2, 3)
        torch.library.opcheck(checked.focal_attention_backward.default, tuple(plain(x) for x in (grad, *args)))
        torch.library.opcheck(checked.maxsim.default, (*swapped, ids, None, None, -1, -1))
        patches = (queries, images.values, None, images.offsets, None, None, ids, 0, 0.1, 0.0, -1)
        torch.library.opcheck(checked.patch_weighted.default, patches)
    whole = make_ragged([3], 12, 2).values.requires_grad_(needs_grad)
    folded = (whole, images.values, None, images.offsets, 0.1, True, -1)
    torch.library.opcheck(checked.fold_patches.default, folded)
    packed = (images.values.detach(), None, images.offsets, images.factor_offsets, images.factor_size)
    torch.library.opcheck(checked.triangular_factor.default, packed)


@pytest.mark.parametrize("settings", SETTINGS)
def test_gradients_equal_the_reference(make_ragged: MakeRagged, settings: dict[str, Any]) -> None:
    images, texts = with_grad(make_ragged([5, 2, 7], 12)), with_grad(make_ragged([3, 4], 12, 1))
    gradients = []
    for backend in ("cpu", "reference"):
        scores = ops.focal_attention_score(images, texts, backend=backend, **settings)
        finite = torch.isfinite(scores)
        weight = torch.linspace(-1, 2, scores.numel()).reshape(scores.shape)
        gradients.append(torch.autograd.grad((scores * weight)[finite].sum(), [images.values, texts.values]))
    torch.testing.assert_close(*gradients)


def test_gradients_of_the_other_ops(make_ragged: MakeRagged) -> None:
    images, texts = with_grad(make_ragged([5, 2, 7], 12)), with_grad(make_ragged([3, 4], 12, 1))
    whole = make_ragged([3], 12, 2).values.requires_grad_()
    weights = torch.rand(14, requires_grad=True)
    calls: list[Callable[[str], torch.Tensor]] = [
        lambda backend: ops.maxsim_score(texts, images, backend=backend),
        lambda backend: ops.patch_weighted_score(
            texts.values,
            images,
            pooling="weights",
            weights=weights,
            global_features=whole,
            global_mix=0.3,
            backend=backend,
        ),
        lambda backend: ops.patch_weighted_score(texts.values[:2], images, candidates=IDS[:2, :2], backend=backend),
        lambda backend: ops.fold_patches(whole, images, temperature=0.2, renormalise=True, backend=backend),
    ]
    leaves = [images.values, texts.values, whole, weights]
    for call in calls:
        expected = torch.autograd.grad(call("reference").square().sum(), leaves, allow_unused=True)
        found = torch.autograd.grad(call("cpu").square().sum(), leaves, allow_unused=True)
        assert any(gradient is not None for gradient in expected)
        for one, other in zip(found, expected):
            torch.testing.assert_close(one, other)


def test_mined_pairs_have_the_gradient_of_all_pairs(make_ragged: MakeRagged) -> None:
    images, texts = with_grad(make_ragged([4] * 12, 16)), with_grad(make_ragged([3] * 12, 16, 1))
    everything = ops.focal_attention_score(images, texts, backend="reference")
    full = torch.autograd.grad(ops.hardest_negative_hinge(everything), [images.values, texts.values])
    scores = ops.focal_attention_score(images, texts, backend="cpu")
    loss = ops.hardest_negative_hinge(scores)
    (of_scores,) = torch.autograd.grad(loss, [scores], retain_graph=True)
    assert 0 < int(of_scores.count_nonzero()) <= 3 * 12, "the positives and the two hardest negatives of each row"
    mined = torch.autograd.grad(loss, [images.values, texts.values])
    torch.testing.assert_close(mined, full, atol=1e-5, rtol=1e-4)


def test_hinge_by_hand() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.5, 0.4], [0.95, 0.0, 0.3]])
    # Rows: .2+.8-.9, .2+.4-.5, .2+.95-.3; columns: .2+.95-.9, .2+.8-.5, .2+.4-.3.
    assert ops.hardest_negative_hinge(scores).item() == pytest.approx(0.1 + 0.1 + 0.85 + 0.25 + 0.5 + 0.3)
    assert ops.hardest_negative_hinge(torch.ones(1, 1)).item() == 0.0
    with pytest.raises(ValueError, match="scores must have shape"):
        ops.hardest_negative_hinge(torch.ones(2, 3))


def test_compile_without_graph_breaks(make_ragged: MakeRagged) -> None:
    images, texts = make_ragged([5, 2, 7], 12), make_ragged([3, 4], 12, 1)

    def everything(v: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, ...]:
        i, t = ops.Ragged(v, images.offsets), ops.Ragged(s, texts.offsets)
        scores = ops.focal_attention_score(i, t) * 2
        return scores, ops.maxsim_score(t, i), ops.patch_weighted_score(s, i), ops.focal_attention_score(images, texts)

    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images.values, texts.values), everything(images.values, texts.values))
    leaf = images.values.clone().requires_grad_()
    compiled(leaf, texts.values)[0].sum().backward()
    eager = images.values.clone().requires_grad_()
    everything(eager, texts.values)[0].sum().backward()
    torch.testing.assert_close(leaf.grad, eager.grad)


def test_vmap_is_refused(make_ragged: MakeRagged) -> None:
    texts = make_ragged([3, 4], 12, 1)
    batch = torch.randn(2, 14, 12)
    offsets = torch.tensor([0, 5, 14])
    with pytest.raises(ValueError, match=r"does not run under torch\.func\.vmap"):
        torch.func.vmap(lambda v: ops.patch_weighted_score(v, texts))(batch)
    with pytest.raises(ValueError, match=r"does not run under torch\.func\.vmap"):
        torch.func.vmap(lambda v: ops.focal_attention_score(ops.Ragged(v, offsets), texts))(batch)
    with pytest.raises(ValueError, match=r"does not run under torch\.func\.vmap"):
        torch.func.vmap(
            lambda v: torch.ops.heritage_align.focal_attention(
                *FocalArguments(v, None, offsets, texts.values, None, texts.offsets), None, None
            )
        )(batch)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_autocast_leaves_scores_alone(make_ragged: MakeRagged, backend: str) -> None:
    images, texts = make_ragged([5, 2, 7], 12), make_ragged([3, 4], 12, 1)
    plain = ops.focal_attention_score(images, texts, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ops.focal_attention_score(images, texts, backend=backend)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, plain)


def test_what_inference_leaves_behind_does_not_stop_a_gradient(make_ragged: MakeRagged) -> None:
    images, texts = make_ragged([5, 2, 7], 12), make_ragged([3, 4], 12, 1)
    with torch.inference_mode():
        assert not images.factor_offsets.is_inference()
        assert not any(plan is None or plan.is_inference() for plan in text_bins(texts))
    factor = ops.triangular_factor(images)
    ops.focal_attention_score(images, with_grad(texts), image_factor=factor).sum().backward()

"""What Python adds to the compiled ops: shapes for tracing, gradients, and a clear refusal of vmap.

Gradients are made only for the pairs whose incoming gradient is not zero: a hinge with the hardest negative touches at
most three pairs a row, so its backward costs those pairs and not all of them. That of focal attention is a compiled op
(csrc/epilogue/focal_gradient.h derives it); the others come from the reference by autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import codes, reference
from .focal_arguments import FocalArguments
from .ragged import Ragged

_FOCAL = {name: place for place, name in enumerate(FocalArguments._fields)}
_SCORES = {  # op: (its images' offsets, its texts' offsets or rows, are the texts ragged, its candidates)
    "focal_attention": (_FOCAL["region_offsets"], _FOCAL["word_offsets"], True, _FOCAL["candidates"]),
    "patch_weighted": (3, 0, False, 6),
    "maxsim": (5, 2, True, 6),
}
_BACKWARDS = {
    "patch_weighted_backward": (
        "(Tensor grad, Tensor queries, Tensor patches, Tensor? patch_scales, Tensor patch_offsets, Tensor? weights,"
        " Tensor? global_features, Tensor? candidates, int pooling, float temperature, float global_mix)"
        " -> (Tensor, Tensor, Tensor, Tensor)"
    ),
    "maxsim_backward": (
        "(Tensor grad, Tensor queries, Tensor? query_scales, Tensor query_offsets, Tensor documents,"
        " Tensor? document_scales, Tensor document_offsets, Tensor? candidates) -> (Tensor, Tensor)"
    ),
    "fold_patches_backward": (
        "(Tensor grad, Tensor global_features, Tensor patches, Tensor? patch_scales, Tensor patch_offsets,"
        " float temperature, bool renormalise) -> (Tensor, Tensor)"
    ),
}


def register_all() -> None:
    """Register everything; called once, when the library is loaded."""
    for name, (images, texts, ragged, candidates) in _SCORES.items():
        _register_score_shape(name, images, texts, ragged, candidates)
    torch.library.register_fake("heritage_align::fold_patches", _fold_shape)
    torch.library.register_fake("heritage_align::triangular_factor", _factor_shape)
    torch.library.register_fake("heritage_align::focal_attention_backward", _focal_attention_backward_shape)
    for name, schema in _BACKWARDS.items():
        torch.library.define(f"heritage_align::{name}", schema)
        torch.library.impl(f"heritage_align::{name}", "CompositeExplicitAutograd", globals()[f"_{name}"])
        torch.library.register_fake(f"heritage_align::{name}", globals()[f"_{name}_shape"])
    for name in ("focal_attention", "patch_weighted", "maxsim", "fold_patches"):
        torch.library.register_autograd(
            f"heritage_align::{name}", globals()[f"_{name}_gradient"], setup_context=remember
        )
    for name in (*_SCORES, "fold_patches", "triangular_factor"):
        torch.library.register_vmap(f"heritage_align::{name}", _refuse(name))


def _refuse(name: str) -> Callable[..., Any]:
    def vmapped(_info: Any, _in_dims: Any, *_args: Any) -> Any:
        raise ValueError(f"heritage_align::{name} does not run under torch.func.vmap: it scores all pairs in one call")

    return vmapped


def _register_score_shape(name: str, images: int, texts: int, ragged: bool, candidates: int) -> None:
    def shape(*args: Any) -> Tensor:
        like = args[texts]
        if args[candidates] is not None:
            return like.new_empty(args[candidates].shape, dtype=torch.float32)
        n_texts = args[texts].shape[0] - 1 if ragged else args[texts].shape[0]
        return like.new_empty((args[images].shape[0] - 1, n_texts), dtype=torch.float32)

    torch.library.register_fake(f"heritage_align::{name}", shape)


def _fold_shape(whole: Tensor, *_rest: Any) -> Tensor:
    return whole.new_empty(whole.shape, dtype=torch.float32)


def _factor_shape(values: Tensor, _scales: Any, _offsets: Any, _starts: Any, packed_size: int) -> Tensor:
    return values.new_empty((packed_size,), dtype=torch.float32)


def remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001 (torch passes it by name)
    """Keep an op's inputs for its backward."""
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    ctx.layout = [None if isinstance(value, Tensor) else (value,) for value in inputs]
    ctx.save_for_backward(*tensors)


def recall(ctx: Any) -> list[Any]:
    """Return what `remember` kept."""
    saved = iter(ctx.saved_tensors)
    return [next(saved) if slot is None else slot[0] for slot in ctx.layout]


def _only(ctx: Any, gradients: dict[int, Tensor]) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad
    return tuple(gradients.get(i) if needed[i] else None for i in range(len(needed)))


def _focal_attention_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    args = FocalArguments(*recall(ctx)[: len(_FOCAL)])
    regions, words = torch.ops.heritage_align.focal_attention_backward(grad.contiguous(), *args)
    found = {_FOCAL["regions"]: regions.to(args.regions.dtype), _FOCAL["words"]: words.to(args.words.dtype)}
    return _only(ctx, found)


def _patch_weighted_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    args = recall(ctx)
    op = torch.ops.heritage_align.patch_weighted_backward
    queries, patches, weights, whole = op(grad, *args[:10])
    return _only(ctx, {0: queries, 1: patches, 4: weights, 5: whole})


def _maxsim_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    args = recall(ctx)
    queries, documents = torch.ops.heritage_align.maxsim_backward(grad, *args[:7])
    return _only(ctx, {0: queries, 3: documents})


def _fold_patches_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    args = recall(ctx)
    whole, patches = torch.ops.heritage_align.fold_patches_backward(grad, *args[:6])
    return _only(ctx, {0: whole, 1: patches})


def _gradients(outputs: Callable[..., Tensor], grad: Tensor, *inputs: Tensor | None) -> tuple[Tensor, ...]:
    """Gradients of ``sum(grad * outputs(*leaves))`` by autograd; zeros for inputs that cannot have one.

    An op's body runs with autograd's dispatch keys excluded; they are put back for the reference.
    """
    included, excluded = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
    autograd = torch._C.DispatchKeySet(torch._C.DispatchKey.AutogradCPU)
    autograd = autograd | torch._C.DispatchKeySet(torch._C.DispatchKey.AutogradCUDA)
    with torch._C._ForceDispatchKeyGuard(included, excluded - autograd), torch.enable_grad():
        leaves = [
            None if value is None else value.detach().requires_grad_(value.is_floating_point()) for value in inputs
        ]
        result = outputs(*leaves)
        wanted = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
        # What gets no gradient (-inf, candidates -1) is not connected to the leaves.
        found: list[Tensor | None] = [None] * len(wanted)
        if result.requires_grad:
            found = list(torch.autograd.grad(result, wanted, grad.to(result.dtype), allow_unused=True))
    given = iter(found)
    gradients = []
    for value, leaf in zip(inputs, leaves):
        gradient = next(given) if leaf is not None and leaf.requires_grad else None
        if value is None:
            gradients.append(grad.new_zeros(0))
        else:
            gradients.append(torch.zeros_like(value) if gradient is None else gradient)
    return tuple(gradients)


def _pairs_that_matter(grad: Tensor, candidates: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """Candidates without the pairs of zero gradient, and the gradient in their layout; unchanged where most matter."""
    matter = grad != 0
    if candidates is not None:
        return torch.where(matter, candidates, -1), grad
    by_text = matter.T  # (n_texts, n_images)
    most = int(by_text.sum(dim=1).max()) if by_text.numel() else 0
    if 2 * most > by_text.shape[1]:
        return None, grad
    ids = by_text.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    chosen = torch.where(by_text.gather(1, ids), ids, -1)
    return chosen, torch.where(chosen < 0, 0, grad.T.gather(1, ids))


def _patch_weighted_backward(
    grad: Tensor,
    queries: Tensor,
    patches: Tensor,
    patch_scales: Tensor | None,
    patch_offsets: Tensor,
    weights: Tensor | None,
    global_features: Tensor | None,
    candidates: Tensor | None,
    pooling: int,
    temperature: float,
    global_mix: float,
) -> tuple[Tensor, ...]:
    chosen, wanted = _pairs_that_matter(grad, candidates)

    def scores(query: Tensor, patch: Tensor, weight: Tensor | None, whole: Tensor | None) -> Tensor:
        return reference.patch_weighted_score(
            query,
            Ragged(patch, patch_offsets, patch_scales),
            pooling=str(codes.name_of(codes.POOLINGS, pooling)),
            temperature=temperature,
            weights=weight,
            global_features=whole,
            global_mix=global_mix,
            candidates=chosen,
        )

    return _gradients(scores, wanted, queries, patches, weights, global_features)


def _maxsim_backward(
    grad: Tensor,
    queries: Tensor,
    query_scales: Tensor | None,
    query_offsets: Tensor,
    documents: Tensor,
    document_scales: Tensor | None,
    document_offsets: Tensor,
    candidates: Tensor | None,
) -> tuple[Tensor, ...]:
    chosen, wanted = _pairs_that_matter(grad, candidates)

    def scores(query: Tensor, document: Tensor) -> Tensor:
        return reference.maxsim_score(
            Ragged(query, query_offsets, query_scales),
            Ragged(document, document_offsets, document_scales),
            candidates=chosen,
        )

    return _gradients(scores, wanted, queries, documents)


def _fold_patches_backward(
    grad: Tensor,
    global_features: Tensor,
    patches: Tensor,
    patch_scales: Tensor | None,
    patch_offsets: Tensor,
    temperature: float,
    renormalise: bool,
) -> tuple[Tensor, ...]:
    def folded(whole: Tensor, patch: Tensor) -> Tensor:
        return reference.fold_patches(
            whole,
            Ragged(patch, patch_offsets, patch_scales),
            temperature=temperature if temperature > 0 else None,
            renormalise=renormalise,
        )

    return _gradients(folded, grad, global_features, patches)


def _focal_attention_backward_shape(_grad: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    rows = FocalArguments(*arguments)
    return tuple(rows.regions.new_empty(one.shape, dtype=torch.float32) for one in (rows.regions, rows.words))


def _patch_weighted_backward_shape(grad: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    given = (rest[0], rest[1], rest[4], rest[5])
    return tuple(grad.new_empty(0) if value is None else torch.empty_like(value) for value in given)


def _maxsim_backward_shape(_grad: Tensor, queries: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return torch.empty_like(queries), torch.empty_like(rest[2])


def _fold_patches_backward_shape(_grad: Tensor, whole: Tensor, patches: Tensor, *_rest: Any) -> tuple[Tensor, ...]:
    return torch.empty_like(whole), torch.empty_like(patches)

"""Patch-weighted similarity: one vector a text, its weighted cosines with the patches of an image."""

from __future__ import annotations

import torch
from torch import Tensor

from . import checks, codes, inputs, reference
from .backend import pick, run
from .candidates import check_candidates
from .ragged import Ragged

_FLOATS = checks.STORAGE_DTYPES[:4]


def patch_weighted_score(
    queries: Tensor,
    patches: Ragged,
    *,
    pooling: str = "softmax",
    temperature: float = 0.01,
    weights: Tensor | None = None,
    global_features: Tensor | None = None,
    global_mix: float = 0.0,
    candidates: Tensor | None = None,
    backend: str = "auto",
    check_finite: bool = False,
) -> Tensor:
    """Score images against texts by pooling ``s_i = <patch_i, query>`` over the patches of an image.

    ``score = global_mix * <global, query> + (1 - global_mix) * pooled``. Text-conditioned weights do not fold into one
    vector an image; the image-conditioned ones of LACLIP do, see :func:`fold_patches`.

    Args:
        queries: ``(n_queries, dim)`` floating.
        patches: rows ``(total_patches, dim)``.
        pooling: "softmax" (``sum_i softmax_i(s / temperature) s_i``), "max", "mean", or "weights"
            (``sum_i weights_i s_i``).
        temperature: of the softmax, greater than 0.
        weights: ``(total_patches,)`` floating, with pooling "weights" only.
        global_features: ``(n_images, dim)`` floating, needed where ``global_mix`` is not 0.
        global_mix: share of the global similarity, 0 to 1.
        candidates: ``(n_queries, k)`` image ids, -1 for none; all pairs where absent. See
            :func:`focal_attention_score` on when they are looked at.
        backend: "auto", "reference", "cpu" or "cuda".
        check_finite: raise where an input holds NaN or infinity.

    Returns:
        float32 ``(n_images, n_queries)``, or ``(n_queries, k)`` with candidates. An image without patches, and a
        candidate -1, score -inf.

    Raises:
        ValueError: if an argument does not fit; the message names it.
    """
    inputs.ragged("patches", patches)
    checks.refuse_vmap("patch_weighted_score", queries, patches.values, weights, global_features, candidates)
    device = patches.device
    checks.tensor("queries", queries, shape=(None, patches.dim), dtypes=_FLOATS, device=device)
    pooling_code = checks.setting("pooling", pooling, codes.POOLINGS)
    temperature = checks.number("temperature", temperature, positive=True)
    if (weights is not None) != (pooling == "weights"):
        raise ValueError(
            f"weights must be given with pooling 'weights' and with no other; got pooling {pooling!r} and "
            f"weights {checks.describe(weights)}"
        )
    if weights is not None:
        checks.tensor("weights", weights, shape=(patches.total,), dtypes=_FLOATS, device=device)
    global_mix = checks.number("global_mix", global_mix)
    if global_mix > 1.0:
        raise ValueError(f"global_mix must lie in 0..1; got {global_mix}")
    if global_mix != 0.0 and global_features is None:
        raise ValueError("global_features must be given where global_mix is not 0")
    if global_features is not None:
        shape = (len(patches), patches.dim)
        checks.tensor("global_features", global_features, shape=shape, dtypes=_FLOATS, device=device)
    candidates = check_candidates(candidates, queries.shape[0], len(patches), device, check_finite=check_finite)
    if check_finite:
        checks.finite("queries", queries)
        checks.finite("patches.values", patches.values)
        checks.finite("weights", weights)
        checks.finite("global_features", global_features)
    whole = queries if global_features is None else global_features
    chosen = pick(backend, device, (queries.dtype, patches.dtype, whole.dtype))
    if chosen == "reference":
        return reference.patch_weighted_score(
            queries,
            patches,
            pooling=pooling,
            temperature=temperature,
            weights=weights,
            global_features=global_features,
            global_mix=global_mix,
            candidates=candidates,
        ).float()
    return run(
        torch.ops.heritage_align.patch_weighted.default,
        (queries, patches.values, weights, global_features),
        queries.contiguous(),
        inputs.rows(patches.values),
        patches.scales,
        patches.offsets,
        None if weights is None else weights.float().contiguous(),
        global_features.contiguous() if global_features is not None and global_mix != 0.0 else None,
        candidates,
        pooling_code,
        temperature,
        global_mix,
        patches.max_length if chosen == "cuda" else -1,
    )

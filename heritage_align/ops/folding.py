"""Folding: a score whose weights do not depend on the text is a dot product with one vector an image."""

from __future__ import annotations

import torch
from torch import Tensor

from . import checks, inputs, reference
from .backend import pick, run
from .ragged import Ragged

_FLOATS = checks.STORAGE_DTYPES[:4]


def fold_patches(
    global_features: Tensor,
    patches: Ragged,
    *,
    temperature: float | None = None,
    renormalise: bool = False,
    backend: str = "auto",
    check_finite: bool = False,
) -> Tensor:
    """Fold the patches of every image into ``sum_j w_j u_j``, ``w_j = <u_I, u_j>`` (LACLIP, Yuan et al. 2025, figure).

    Args:
        global_features: ``u_I`` ``(n_images, dim)`` floating.
        patches: ``u_j``, rows ``(total_patches, dim)``.
        temperature: None for the raw weights; a number greater than 0 for ``softmax_j(w / temperature)``
            (WCA, Li et al. 2024, uses ``temperature = exp(-4)``).
        renormalise: scale the result to unit length, as WCA does.
        backend: "auto", "reference", "cpu" or "cuda".
        check_finite: raise where an input holds NaN or infinity.

    Returns:
        float32 ``(n_images, dim)``; zeros for an image without patches.

    Raises:
        ValueError: if an argument does not fit; the message names it.
    """
    inputs.ragged("patches", patches)
    checks.refuse_vmap("fold_patches", global_features, patches.values)
    shape = (len(patches), patches.dim)
    checks.tensor("global_features", global_features, shape=shape, dtypes=_FLOATS, device=patches.device)
    if temperature is not None:
        temperature = checks.number("temperature", temperature, positive=True)
    if check_finite:
        checks.finite("global_features", global_features)
        checks.finite("patches.values", patches.values)
    if pick(backend, patches.device, (global_features.dtype, patches.dtype)) == "reference":
        return reference.fold_patches(
            global_features, patches, temperature=temperature, renormalise=renormalise
        ).float()
    return run(
        torch.ops.heritage_align.fold_patches.default,
        (global_features, patches.values),
        global_features.contiguous(),
        inputs.rows(patches.values),
        patches.scales,
        patches.offsets,
        0.0 if temperature is None else temperature,
        renormalise,
        patches.max_length if patches.device.type == "cuda" else -1,
    )

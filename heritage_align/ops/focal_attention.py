"""Focal attention: SCAN, BFAN and their filtered relatives as one fused score of an image and a text."""

from __future__ import annotations

import torch
from torch import Tensor

from . import checks, codes, inputs, reference
from .backend import pick, run
from .candidates import ask_for_most, check_candidates, of_candidates
from .factor import triangular_factor
from .focal_arguments import FocalArguments
from .planner import text_bins
from .ragged import Ragged


def focal_attention_score(
    images: Ragged,
    texts: Ragged,
    *,
    direction: str = "t2i",
    rectifier: str = "leaky_relu",
    normalise: str = "l2",
    temperature: float = 9.0,
    focal: str | None = None,
    keep: Tensor | None = None,
    aggregate: str = "lse",
    lse_scale: float = 6.0,
    image_factor: Tensor | None = None,
    text_factor: Tensor | None = None,
    candidates: Tensor | None = None,
    backend: str = "auto",
    check_finite: bool = False,
) -> Tensor:
    """Score images against texts by cross attention between regions and fragments.

    Each word attends to the regions ("t2i": ``softmax(temperature * normalised(rectified(cosine)))``, Lee et al. 2018,
    SCAN, eqs 1-6), if asked through the focal filter of BFAN (Liu et al. 2019) or of Sheng et al. 2021 (eqs 13-15), and
    contributes its cosine with what it attends to; "i2t" swaps the roles; "both" adds the two aggregated scores.
    The attended vectors are never built: their length is ``|R a|`` with the triangular factor R of the regions.

    Args:
        images: regions, rows ``(total_regions, dim)``, of unit length as a rule (they are not normalised here).
        texts: words or phrases, rows ``(total_words, dim)``.
        direction: of attention, not of retrieval: "t2i", "i2t" or "both".
        rectifier: "leaky_relu" (slope 0.1, as the code of SCAN and BFAN), "relu" or "none".
        normalise: over the query axis: "l2" (the norm is raised by 1e-8, with ``focal`` to at least 1e-8), "softmax" or
            "none".
        temperature: the factor of the softmax over contexts (lambda of SCAN), 0 or greater.
        focal: None, "equal" or "prob" (BFAN: keep ``F > 0``), or "sheng" (keep ``F >= 0``); in both directions. Masked
            regions count as weight 0 in F. Where no fragment survives, or all weigh the same within ``1e-6 (1 +
            temperature)``, as for a text of one fragment, the step is skipped for that query.
        keep: ``(total_regions,)`` bool; a False region gets no weight in t2i. An image that would keep none keeps all.
        aggregate: over the queries: "lse" (``log(sum exp(lse_scale r)) / lse_scale``), "mean", "max" or "sum".
        lse_scale: greater than 0.
        image_factor: packed factors of ``images`` (:func:`triangular_factor`), used by t2i; computed where absent.
        text_factor: the same of ``texts``, used by i2t.
        candidates: ``(n_texts, k)`` image ids, -1 for none; all pairs where absent. On a GPU the ids are looked at only
            with ``check_finite``, because that waits for the device; an id out of range scores -inf there.
        backend: "auto", "reference", "cpu" or "cuda".
        check_finite: raise where an input holds NaN or infinity.

    Returns:
        float32 ``(n_images, n_texts)``, or ``(n_texts, k)`` with candidates. An image or text without fragments, and a
        candidate -1, score -inf.

    Raises:
        ValueError: if an argument does not fit; the message names it.
    """
    inputs.ragged("images", images)
    inputs.ragged("texts", texts)
    checks.refuse_vmap("focal_attention_score", images.values, texts.values, keep, candidates)
    inputs.same_space("images", images, "texts", texts)
    settings = (
        checks.setting("direction", direction, codes.DIRECTIONS),
        checks.setting("rectifier", rectifier, codes.RECTIFIERS),
        checks.setting("normalise", normalise, codes.NORMALISERS),
        checks.setting("focal", focal, codes.FOCALS),
        checks.setting("aggregate", aggregate, codes.AGGREGATES),
    )
    temperature = checks.number("temperature", temperature)
    lse_scale = checks.number("lse_scale", lse_scale, positive=True)
    if keep is not None:
        checks.tensor("keep", keep, shape=(images.total,), dtypes=(torch.bool,), device=images.device)
    image_factor = inputs.factor("image_factor", image_factor, images)
    text_factor = inputs.factor("text_factor", text_factor, texts)
    candidates = check_candidates(candidates, len(texts), len(images), images.device, check_finite=check_finite)
    if check_finite:
        checks.finite("images.values", images.values)
        checks.finite("texts.values", texts.values)
    chosen = pick(backend, images.device, (images.dtype, texts.dtype))
    if chosen == "reference":
        return reference.focal_attention_score(
            images,
            texts,
            direction=direction,
            rectifier=rectifier,
            normalise=normalise,
            temperature=temperature,
            focal=focal,
            keep=keep,
            aggregate=aggregate,
            lse_scale=lse_scale,
            candidates=candidates,
        ).float()
    on_gpu = chosen == "cuda"
    differentiated = torch.is_grad_enabled() and (images.values.requires_grad or texts.values.requires_grad)
    # On the CPU the kernels make the factors themselves; a backward would make them again.
    if on_gpu or (differentiated and not torch.compiler.is_compiling()):
        if direction != "i2t" and image_factor is None:
            image_factor = triangular_factor(images)
        if direction != "t2i" and text_factor is None:
            text_factor = triangular_factor(texts)
    if direction == "t2i":
        text_factor = None
    elif direction == "i2t":
        image_factor = None
    most = on_gpu and candidates is not None and ask_for_most(candidates, texts, images)
    listed = None if most else candidates
    bins = text_bins(texts) if on_gpu and listed is None else (None, None)
    scores = run(
        torch.ops.heritage_align.focal_attention.default,
        (images.values, texts.values),
        *FocalArguments.of(
            images,
            texts,
            (inputs.rows(images.values), inputs.rows(texts.values)),
            keep,
            (image_factor, text_factor),
            listed,
            settings,
            temperature,
            lse_scale,
            for_cuda=on_gpu,
        ),
        *bins,
    )
    return of_candidates(scores, candidates) if most and candidates is not None else scores

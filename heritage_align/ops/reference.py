"""The oracle: every op again, slow and obvious, in plain torch, for any floating dtype, differentiable.

One image (or a stack of images with equally many regions) meets one text at a time, so nothing larger than one stack's
attended vectors is ever made. Scores come back in the compute dtype: float64 for float64 inputs, else float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from .ragged import Ragged

LEAKY_SLOPE = 0.1  # the released SCAN and BFAN code; the papers say ReLU
EPS = 1e-8  # added to the L2 norm (its floor with a focal filter), and the floor of the cosine's denominator
# Where all weights are equal, as for a text of one fragment, the published filters leave the choice to rounding. They
# count as equal where the largest leads the threshold by no more than this fraction, times 1 + temperature: in float32,
# rounding logits of [-temperature, temperature] moves a weight by up to 2.4e-7 temperature, its lead by twice that.
FOCAL_TOLERANCE = 1e-6
STACK_ELEMENTS = 1 << 24  # at most this many numbers in one stack of regions (64 MB of float32)

_F = TypeVar("_F", bound=Callable[..., Any])


def _without_autocast(function: _F) -> _F:
    """Scores are float32 whatever autocast says: a bfloat16 product here would be no oracle."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs)

    wrapper.__doc__, wrapper.__name__ = function.__doc__, function.__name__
    return cast(_F, wrapper)


def compute_values(ragged: Ragged) -> Tensor:
    """The rows ``(total, dim)`` in the dtype that scores are computed in, int8 scales applied."""
    return ragged.values if ragged.dtype == torch.float64 else ragged.dequantised().float()


def rectified(cosines: Tensor, rectifier: str) -> Tensor:
    """LeakyReLU with slope 0.1 (SCAN and BFAN code), ReLU (Sheng et al. 2021, eqs 9-10), or nothing."""
    if rectifier == "leaky_relu":
        return torch.nn.functional.leaky_relu(cosines, LEAKY_SLOPE)
    return cosines.relu() if rectifier == "relu" else cosines


def normalised(cosines: Tensor, normalise: str, *, exact_ties: bool = False) -> Tensor:
    """Normalise over the query axis, the last of ``(..., n_contexts, n_queries)`` (SCAN, Lee et al. 2018, eq. 1).

    With ``exact_ties`` the L2 norm is at least 1e-8 where the published code adds 1e-8. A sole query then gives every
    context exactly 1, -1 or 0; the sum sets them 1e-8 / abs(cosine) apart, which float32 does not resolve.
    """
    if normalise == "l2":
        norm = torch.linalg.vector_norm(cosines, dim=-1, keepdim=True)
        return cosines / (norm.clamp_min(EPS) if exact_ties else norm + EPS)
    return cosines.softmax(dim=-1) if normalise == "softmax" else cosines


def focal_filter(attention: Tensor, focal: str, temperature: float) -> Tensor:
    """Which contexts a query keeps; ``attention`` and the result are ``(..., n_queries, n_contexts)``.

    ``F_i = sum_j (p_i - p_j) g_j`` with the confidence ``g``: 1 ("equal") or ``sqrt(p)`` ("prob") and ``F > 0`` in the
    code of BFAN (Liu et al. 2019); ``p`` and ``F >= 0`` ("sheng", Sheng et al. 2021, eqs 13-14). Equal weights have
    ``F = 0``: ``>`` keeps none of them and ``>=`` all. They count as equal up to the rounding of logits of
    ``temperature``; otherwise the published comparison decides, without tolerance.
    """
    confidence = {
        "equal": torch.ones_like(attention),
        "prob": attention.sqrt(),
        "sheng": attention,
    }[focal]
    strength = attention * confidence.sum(-1, keepdim=True)
    threshold = (attention * confidence).sum(-1, keepdim=True)  # F_i = strength_i - threshold
    uneven = strength.amax(-1, keepdim=True) > threshold * (1 + FOCAL_TOLERANCE * (1 + temperature))
    return (strength >= threshold) | ~uneven if focal == "sheng" else (strength > threshold) & uneven


def attend_one_way(
    queries: Tensor,
    contexts: Tensor,
    *,
    rectifier: str,
    normalise: str,
    temperature: float,
    focal: str | None,
    keep: Tensor | None,
) -> Tensor:
    """Cosine of every query with the context vector that it attends to (SCAN, Lee et al. 2018, eqs 1-4).

    Args:
        queries: ``(..., n_queries, dim)``.
        contexts: ``(..., n_contexts, dim)``.
        rectifier, normalise, temperature, focal: as in :func:`focal_attention_score`.
        keep: ``(..., n_contexts)`` bool; False gives a context no weight. At least one per item must be True.

    Returns:
        The cosines ``(..., n_queries)``.
    """
    cosines = contexts @ queries.transpose(-1, -2)
    axis = normalised(rectified(cosines, rectifier), normalise, exact_ties=focal is not None)
    logits = temperature * axis.transpose(-1, -2)
    if keep is not None:
        logits = logits.masked_fill(~keep.unsqueeze(-2), float("-inf"))
    attention = logits.softmax(dim=-1)
    if focal is not None:
        kept = focal_filter(attention.detach(), focal, temperature)
        attention = attention * (kept | ~kept.any(dim=-1, keepdim=True))  # a query that keeps nothing skips the step
        attention = attention / attention.sum(dim=-1, keepdim=True)
    attended = attention @ contexts
    lengths = torch.linalg.vector_norm(attended, dim=-1) * torch.linalg.vector_norm(queries, dim=-1)
    return (attended * queries).sum(-1) / lengths.clamp_min(EPS)


def aggregated(cosines: Tensor, aggregate: str, lse_scale: float) -> Tensor:
    """One score from the cosines ``(..., n_queries)`` (SCAN, Lee et al. 2018, eqs 5-6; max and sum as in its code)."""
    if aggregate == "lse":
        return torch.logsumexp(lse_scale * cosines, dim=-1) / lse_scale
    if aggregate == "max":
        return cosines.amax(dim=-1)
    return cosines.mean(dim=-1) if aggregate == "mean" else cosines.sum(dim=-1)


@_without_autocast
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
    candidates: Tensor | None = None,
) -> Tensor:
    """The scores of :func:`heritage_align.ops.focal_attention_score`, in the compute dtype."""
    regions, words = compute_values(images), compute_values(texts)
    settings = {"rectifier": rectifier, "normalise": normalise, "temperature": temperature, "focal": focal}
    keep = usable_keep(images, keep)
    scores = _nothing_yet(regions, images, texts, candidates)
    for stack in _stacks(images, texts, candidates):
        region, word = regions[stack.regions], words[stack.words]
        score = torch.zeros(len(region), dtype=regions.dtype, device=regions.device)
        if direction in ("t2i", "both"):
            kept = None if keep is None else keep[stack.regions]
            cosines = attend_one_way(word, region, keep=kept, **settings)  # type: ignore[arg-type]
            score = score + aggregated(cosines, aggregate, lse_scale)
        if direction in ("i2t", "both"):
            cosines = attend_one_way(region, word, keep=None, **settings)  # type: ignore[arg-type]
            score = score + aggregated(cosines, aggregate, lse_scale)
        scores[stack.place] = score
    return scores


def usable_keep(images: Ragged, keep: Tensor | None) -> Tensor | None:
    """``keep`` with every region of an image back in where it removed all of them."""
    if keep is None:
        return None
    keep = keep.clone()
    bounds = images.host_offsets.tolist()
    for start, stop in pairwise(bounds):
        if stop > start and not bool(keep[start:stop].any()):
            keep[start:stop] = True
    return keep


@_without_autocast
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
) -> Tensor:
    """The scores of :func:`heritage_align.ops.patch_weighted_score`, in the compute dtype."""
    rows = compute_values(patches)
    queries = queries.to(rows.dtype)
    scores = _nothing_yet(rows, patches, len(queries), candidates)
    for image, picked, place in _queries_of_images(patches, len(queries), candidates):
        start, stop = int(patches.host_offsets[image]), int(patches.host_offsets[image + 1])
        similarity = queries[picked] @ rows[start:stop].T
        if pooling == "softmax":
            pooled = ((similarity / temperature).softmax(dim=1) * similarity).sum(dim=1)
        elif pooling == "max":
            pooled = similarity.amax(dim=1)
        elif pooling == "mean":
            pooled = similarity.mean(dim=1)
        else:
            assert weights is not None
            pooled = similarity @ weights[start:stop].to(similarity)
        if global_features is not None and global_mix != 0.0:
            whole = queries[picked] @ global_features[image].to(queries)
            pooled = global_mix * whole + (1.0 - global_mix) * pooled
        scores[place] = pooled
    return scores


@_without_autocast
def maxsim_score(queries: Ragged, documents: Ragged, *, candidates: Tensor | None = None) -> Tensor:
    """The scores of :func:`heritage_align.ops.maxsim_score`, in the compute dtype (Khattab and Zaharia 2020, eq. 3)."""
    rows, documents_rows = compute_values(queries), compute_values(documents)
    scores = _nothing_yet(documents_rows, documents, queries, candidates)
    for stack in _stacks(documents, queries, candidates):
        row, document = rows[stack.words].to(documents_rows), documents_rows[stack.regions]
        similarity = row @ document.transpose(-1, -2)
        scores[stack.place] = similarity.amax(dim=-1).sum(dim=-1)
    return scores


@_without_autocast
def fold_patches(
    global_features: Tensor, patches: Ragged, *, temperature: float | None = None, renormalise: bool = False
) -> Tensor:
    """The vectors of :func:`heritage_align.ops.fold_patches`, in the compute dtype."""
    rows = compute_values(patches)
    folded = []
    bounds = patches.host_offsets.tolist()
    for image, (start, stop) in enumerate(pairwise(bounds)):
        weight = rows[start:stop] @ global_features[image].to(rows)
        if temperature is not None:
            weight = (weight / temperature).softmax(dim=0)
        folded.append(weight @ rows[start:stop])
    if not folded:
        return rows.new_zeros(0, patches.dim)
    vectors = torch.stack(folded)
    return torch.nn.functional.normalize(vectors, dim=1) if renormalise else vectors


@_without_autocast
def triangular_factor(ragged: Ragged) -> Tensor:
    """The factors of :func:`heritage_align.ops.triangular_factor`, by QR in float64, in the compute dtype."""
    rows = compute_values(ragged)
    packed = []
    bounds = ragged.host_offsets.tolist()
    for start, stop in pairwise(bounds):
        m = stop - start
        square = torch.zeros(m, m, dtype=torch.float64, device=rows.device)
        r = torch.linalg.qr(rows[start:stop].double().T, mode="r").R
        square[: r.shape[0]] = r
        packed.append(square[tuple(torch.triu_indices(m, m, device=rows.device))])
    return torch.cat(packed).to(rows) if packed else rows.new_zeros(0)


class _Stack(NamedTuple):
    """Pairs whose images have equally many regions, and whose texts have equally many words."""

    regions: Tensor  # (pairs, m) row numbers
    words: Tensor  # (pairs, n) row numbers, or (1, n) for one text
    place: tuple[Tensor, Tensor | int]  # where the scores go


def _nothing_yet(like: Tensor, images: Ragged, texts: Ragged | int, candidates: Tensor | None) -> Tensor:
    """-inf for every pair: what an item without fragments, or no candidate, scores."""
    n_texts = texts if isinstance(texts, int) else len(texts)
    shape = (len(images), n_texts) if candidates is None else tuple(candidates.shape)
    return torch.full(shape, float("-inf"), dtype=like.dtype, device=like.device)


def _stacks(images: Ragged, texts: Ragged, candidates: Tensor | None) -> Iterator[_Stack]:
    """All pairs text by text, or the candidates by their numbers of regions and words; empty items are left out."""
    if candidates is not None:
        text, column = (candidates >= 0).nonzero(as_tuple=True)
        yield from _equal_pairs(images, texts, candidates[text, column], text, (text, column))
        return
    everyone = torch.arange(len(images), device=images.device)
    for number in range(len(texts)):
        text = torch.tensor([number], device=images.device)
        yield from _equal_pairs(images, texts, everyone, text, (everyone, number))


def _equal_pairs(
    images: Ragged, texts: Ragged, image: Tensor, text: Tensor, place: tuple[Tensor, Tensor | int]
) -> Iterator[_Stack]:
    """Split pairs of images and texts (or of images and one text) into stacks of equal lengths and bounded size."""
    m_of, n_of = images.lengths[image], texts.lengths[text]
    shapes = torch.stack([m_of, n_of.expand(len(m_of))])
    for m, n in shapes.unique(dim=1).T.tolist() if len(m_of) else ():
        if m == 0 or n == 0:
            continue
        same = ((m_of == m) & (n_of == n)).nonzero().squeeze(1)
        for part in same.split(max(1, STACK_ELEMENTS // (m * images.dim))):
            words = text[part] if len(text) > 1 else text
            yield _Stack(
                images.offsets[:-1][image[part]][:, None] + torch.arange(m, device=images.device),
                texts.offsets[:-1][words][:, None] + torch.arange(n, device=images.device),
                (place[0][part], place[1] if isinstance(place[1], int) else place[1][part]),
            )


def _queries_of_images(
    images: Ragged, n_queries: int, candidates: Tensor | None
) -> Iterator[tuple[int, Tensor, tuple[Any, ...]]]:
    """Every image that has patches with the queries that ask for it, and where their scores go."""
    everyone = torch.arange(n_queries, device=images.device)
    for image, length in enumerate((images.host_offsets[1:] - images.host_offsets[:-1]).tolist()):
        if length == 0:
            continue
        if candidates is None:
            yield image, everyone, (image, everyone)
        else:
            query, column = (candidates == image).nonzero(as_tuple=True)
            if len(query):
                yield image, query, (query, column)

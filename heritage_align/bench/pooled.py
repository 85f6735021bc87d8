"""Scores that pool each item's cosines: patch-weighted similarity, folding and MaxSim."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from heritage_align import ops
from heritage_align.ops import reference

from . import peers
from .case import Contender, Setup, candidate_size, compare, equal_items, picks, size, stored, unit_rows, wide
from .focal import COMPILED
from .timing import Work


def patch_all_pairs(
    n_queries: int, n_images: int, device: torch.device, dtype: str, *, m: int = 196, dim: int = 512
) -> Setup:
    """Softmax over the patches, all pairs, against the product in float16 that writes C."""
    patches = stored(equal_items(n_images, m, dim, device, 5), dtype)
    queries = unit_rows(n_queries, dim, device, 6).half()
    ours = partial(ops.patch_weighted_score, queries, patches)
    few = min(32, n_images)
    expected = partial(reference.patch_weighted_score, queries[:8].double(), wide(patches.select(range(few))))
    rows = patches.values.half()
    others = {"bare": Contender(lambda: rows @ queries.T)}
    if patches.scales is None:
        vectorised = partial(peers.compiled(peers.patch_softmax_padded), queries, rows.view(n_images, m, dim))
        others[COMPILED] = Contender(vectorised, lambda: compare(vectorised()[:few, :8], expected(), 3e-2))
    return Setup(
        f"{n_queries} texts x {n_images} images x {m} x {dim}",
        Contender(ours, lambda: compare(ours()[:few, :8], expected(), _softmax_tolerance(device))),
        others,
        flops=2.0 * n_queries * patches.total * dim,
        bytes=size(patches),
    )


def patch_rerank(
    n_queries: int, k: int, n_images: int, device: torch.device, dtype: str, *, m: int = 196, dim: int = 512
) -> Setup:
    """``k`` candidate images a query.

    On a GPU against the floor, each image that occurs read once. On the CPU against copying the store, reading it, and
    for several queries the bare product of as many pairs: all queries with the patches of k images.
    """
    patches = stored(equal_items(n_images, m, dim, device, 5), dtype)
    queries = unit_rows(n_queries, dim, device, 6).to(torch.float32 if device.type == "cpu" else torch.float16)
    candidates = picks(n_queries, k, n_images, device, 7)
    ours = partial(ops.patch_weighted_score, queries, patches, candidates=candidates)

    def check() -> float:
        few = wide(patches.select(candidates[0, :32]))
        expected = reference.patch_weighted_score(queries[:1].double(), few)
        return compare(ours()[0, :32], expected[:, 0], _softmax_tolerance(device))

    others: dict[str, Contender] = {}
    if device.type == "cpu":
        raw = patches.values.view(-1).view(torch.int64)
        copy = torch.empty_like(raw)
        others = {"bare": Contender(partial(copy.copy_, raw)), "read alone": Contender(raw.sum)}
        if n_queries > 1:
            others["product alone"] = Contender(_product(patches.values[: k * m], queries))
    return Setup(
        f"{n_queries} x {k} of {n_images} images x {m} x {dim}",
        Contender(ours, check),
        others,
        flops=2.0 * candidates.numel() * m * dim,
        bytes=candidate_size(patches, candidates),
        floor=True,
    )


def _product(rows: Tensor, queries: Tensor) -> Work:
    """The product on the CPU: int8 by int8, any other store widened to float32 beforehand."""
    if rows.dtype == torch.int8:
        small = (127 * queries).to(torch.int8)
        return lambda: torch._int_mm(rows, small.T)
    widened = rows.float()
    return lambda: widened @ queries.T


def _softmax_tolerance(device: torch.device) -> float:
    """A softmax at temperature 0.01 multiplies rounding by 100; on a GPU the products run on float16."""
    return 3e-5 if device.type == "cpu" else 1e-3


def folding(n_images: int, device: torch.device, temperature: float | None, *, m: int = 196, dim: int = 512) -> Setup:
    """``fold_patches`` with raw weights (``temperature`` None) or their softmax, against reading the patches once."""
    patches = stored(equal_items(n_images, m, dim, device, 5), "float16")
    whole = unit_rows(n_images, dim, device, 8)
    ours = partial(ops.fold_patches, whole, patches, temperature=temperature)
    few = min(32, n_images)

    def check() -> float:
        some = wide(patches.select(range(few)))
        expected = reference.fold_patches(whole[:few].double(), some, temperature=temperature)
        return compare(ours()[:few], expected, 1e-4)

    return Setup(
        f"{n_images} images x {m} x {dim}",
        Contender(ours, check),
        flops=4.0 * patches.total * dim,
        bytes=size(patches),
        floor=True,
    )


def maxsim(
    n_queries: int,
    n_documents: int,
    query_rows: int,
    document_rows: int,
    dim: int,
    device: torch.device,
    *,
    libraries: bool = True,
) -> Setup:
    """MaxSim of all pairs against the bare product; with ``libraries`` also plain torch and what is installed."""
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    queries = equal_items(n_queries, query_rows, dim, device, 8).to(dtype=dtype)
    documents = equal_items(n_documents, document_rows, dim, device, 9).to(dtype=dtype)
    padded_queries = queries.values.view(n_queries, query_rows, dim)
    padded = documents.values.view(n_documents, document_rows, dim)
    ours = partial(ops.maxsim_score, queries, documents)
    few, some = min(64, n_documents), min(4, n_queries)
    expected = reference.maxsim_score(wide(queries.select(range(some))), wide(documents.select(range(few))))

    def check() -> float:
        return compare(ours()[:few, :some], expected, 1e-4 + 1e-6 * query_rows)

    def peer(work: Work, *, graph: bool = True) -> Contender:
        # A library may return float16, which has 11 bits of a large score.
        tolerance = 1e-2 * float(expected.abs().max()) if dtype == torch.float16 else 1e-3

        def check() -> float:
            scores = torch.as_tensor(work()).reshape(n_queries, n_documents)
            return compare(scores[:some, :few].T.to(device), expected, tolerance)

        return Contender(work, check, graph)

    others = {"bare": Contender(lambda: documents.values @ queries.values.T)}
    missing: tuple[str, ...] = ()
    if libraries:
        found, missing = peers.maxsim_libraries(padded_queries, padded)
        others["materialised"] = peer(partial(peers.maxsim_padded, padded_queries, padded))
        others[COMPILED] = peer(partial(peers.compiled(peers.maxsim_padded), padded_queries, padded))
        others |= {name: peer(work, graph=name in peers.CAPTURED) for name, work in found.items()}
    return Setup(
        f"{n_queries} x {n_documents} x {query_rows} x {document_rows} x {dim}",
        Contender(ours, check),
        others,
        flops=2.0 * documents.total * queries.total * dim,
        bytes=size(documents) + size(queries),
        floor=True,
        missing=missing,
    )

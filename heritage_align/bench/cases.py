"""The shapes that are measured, with what each must be compared to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from heritage_align import ops
from heritage_align.ops import reference

from . import peers
from .timing import Work

BFAN: dict[str, Any] = {"direction": "both", "focal": "equal", "aggregate": "mean", "temperature": 20.0}


@dataclass
class Case:
    """One row of the benchmark.

    Attributes:
        name: what is scored.
        shape: the sizes in words.
        dtype: storage.
        ours: the fused kernel.
        peers: contenders by name; "bare" is the one that ratios are to.
        check: raises AssertionError unless ours is right, and returns the largest error.
        flops, bytes: of one call, at least.
        agreement: share of equal top-10 images against float32 features, where that makes sense.
    """

    name: str
    shape: str
    dtype: str
    ours: Work
    peers: dict[str, Work]
    check: Callable[[], float]
    flops: float = 0.0
    bytes: float = 0.0
    agreement: Callable[[], float] | None = None


@dataclass(frozen=True)
class Sizes:
    """How large the cases are: images, captions, candidates, documents."""

    images: int
    captions: int
    rerank: int
    documents: int
    batch: int


CPU_SIZES = Sizes(images=128, captions=256, rerank=1000, documents=1000, batch=128)
GPU_SIZES = Sizes(images=1000, captions=5000, rerank=1000, documents=10000, batch=128)


class Collection:
    """Random unit rows: images of 36 regions, captions of 5 to 21 words, 1024 numbers a row."""

    def __init__(self, sizes: Sizes, device: torch.device, dim: int = 1024, m: int = 36) -> None:
        generator = torch.Generator().manual_seed(0)
        lengths = torch.randint(5, 22, (sizes.captions,), generator=generator)
        shared = torch.randn(dim, generator=generator) * 0.3

        def unit(rows: int) -> Tensor:
            values = torch.randn(rows, dim, generator=generator) + shared
            return torch.nn.functional.normalize(values, dim=1).to(device)

        self.m = m
        self.images = ops.Ragged(unit(sizes.images * m), torch.arange(sizes.images + 1) * m)
        offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        self.texts = ops.Ragged(unit(int(lengths.sum())), offsets)

    def stored(self, storage: str) -> tuple[ops.Ragged, ops.Ragged]:
        """Images and texts as ``storage`` keeps them."""
        return _stored(self.images, storage), _stored(self.texts, storage)


def _stored(ragged: ops.Ragged, storage: str) -> ops.Ragged:
    return ops.quantise(ragged) if storage == "int8" else ragged.to(dtype=getattr(torch, storage))


def _wide(ragged: ops.Ragged) -> ops.Ragged:
    return ops.Ragged(ragged.dequantised().double(), ragged.offsets)


def _compare(found: Tensor, expected: Tensor, tolerance: float) -> float:
    error = float((found.double() - expected.double()).abs().max())
    assert error <= tolerance, f"wrong by {error:.2e}, allowed {tolerance:.0e}: not timed"
    return error


def _top10(ours_of: Callable[[], Tensor], expected: Tensor) -> float:
    scores = ours_of()
    k = min(10, len(scores))
    ours, theirs = scores.topk(k, dim=0).indices, expected.topk(k, dim=0).indices
    return float((ours.T[:, :, None] == theirs.T[:, None, :]).any(dim=2).float().mean())


def focal_cases(sizes: Sizes, device: torch.device, storages: list[str]) -> Iterator[Case]:
    """SCAN t2i and BFAN both directions, all pairs, against the bare product in the storage dtype."""
    collection = Collection(sizes, device)
    plain = ops.focal_attention_score(collection.images, collection.texts)
    factor = ops.triangular_factor(collection.images)
    in_float32 = partial(ops.focal_attention_score, collection.images, collection.texts, image_factor=factor)
    for storage in storages:
        images, texts = collection.stored(storage)
        factors: dict[str, Any] = {
            "image_factor": ops.triangular_factor(images),
            "text_factor": ops.triangular_factor(texts),
        }
        for name, settings in (("SCAN t2i", {}), ("BFAN both", BFAN)):
            ours = partial(ops.focal_attention_score, images, texts, **factors, **settings)
            others: dict[str, Work] = {"bare": _bare_product(images, texts)}
            if storage == ("float16" if device.type == "cuda" else "float32"):
                padded = images.values.view(len(images), collection.m, -1)
                published = peers.scan_per_caption if name == "SCAN t2i" else peers.bfan_per_caption
                others["per caption (published)"] = partial(published, padded, texts)
            if storage == "int8" and device.type == "cpu" and name == "SCAN t2i":
                others["ours in float32"] = in_float32
            yield Case(
                name,
                f"{len(images)} images x {len(texts)} captions ({texts.total} words), m=36, D=1024",
                storage,
                ours,
                others,
                partial(_check_focal, ours, images, texts, settings),
                flops=2.0 * images.total * texts.total * images.dim,
                bytes=_size(images) + _size(texts),
                agreement=partial(_top10, ours, plain) if name == "SCAN t2i" else None,
            )


def _check_focal(ours: Callable[[], Tensor], images: ops.Ragged, texts: ops.Ragged, settings: dict[str, Any]) -> float:
    few = min(8 if images.device.type == "cpu" else 32, len(images), len(texts))
    some_images, some_texts = images.select(range(few)), texts.select(range(few))
    expected = reference.focal_attention_score(_wide(some_images), _wide(some_texts), **settings)
    # A tensor-core epilogue may keep weights in float16; the score itself moves by 4e-4 when its inputs are float16.
    return _compare(ours()[:few, :few], expected, 1e-5 if images.device.type == "cpu" else 2e-4)


def _size(ragged: ops.Ragged) -> float:
    return float(ragged.values.numel() * ragged.values.element_size())


def _bare_product(images: ops.Ragged, texts: ops.Ragged) -> Work:
    if images.dtype == torch.int8:
        if images.device.type == "cuda":
            rows = texts.values[: texts.total // 8 * 8]
            return lambda: torch._int_mm(images.values, rows.T)
        return lambda: torch._int_mm(texts.values, images.values.T)
    return lambda: texts.values @ images.values.T


def rerank_cases(sizes: Sizes, device: torch.device, storages: list[str]) -> Iterator[Case]:
    """Patch-weighted rerank of K images of 196 patches of 512 numbers: one query, and many that share images."""
    m, dim, k = 196, 512, sizes.rerank
    generator = torch.Generator().manual_seed(1)
    rows = torch.nn.functional.normalize(torch.randn(k * m, dim, generator=generator), dim=1).to(device)
    floats = ops.Ragged(rows, torch.arange(k + 1) * m)
    queries = torch.nn.functional.normalize(torch.randn(64, dim, generator=generator), dim=1).to(device)
    one = torch.randperm(k, generator=generator)[None].to(device)
    many = torch.stack([torch.randperm(k, generator=generator)[: k // 4] for _ in range(64)]).to(device)
    for storage in storages:
        patches = _stored(floats, storage)
        raw = patches.values.view(-1).view(torch.int64)
        copy = torch.empty_like(raw)
        for name, q, ids in (("patch rerank, 1 query", queries[:1], one), ("patch rerank, image-major", queries, many)):
            ours = partial(ops.patch_weighted_score, q, patches, candidates=ids)
            yield Case(
                name,
                f"{len(q)} x {ids.shape[1]} of {k} images x 196 x 512",
                storage,
                ours,
                {"bare": partial(copy.copy_, raw), "read alone": raw.sum},
                partial(_check_rerank, ours, q, patches, ids),
                flops=2.0 * ids.numel() * m * dim,
                bytes=_size(patches),
            )


def _check_rerank(ours: Callable[[], Tensor], queries: Tensor, patches: ops.Ragged, ids: Tensor) -> float:
    expected = reference.patch_weighted_score(queries[:1].double(), _wide(patches), candidates=ids[:1, :32])
    # The softmax at 0.01 multiplies rounding by 100; on a GPU the products run on float16.
    return _compare(ours()[:1, :32], expected, 3e-5 if patches.device.type == "cpu" else 1e-3)


def maxsim_cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Late interaction on its home shape: 1 query of 32 rows, documents of 300 rows, 128 numbers."""
    generator = torch.Generator().manual_seed(2)
    storage = torch.float32 if device.type == "cpu" else torch.float16
    unit = torch.nn.functional.normalize
    query = unit(torch.randn(32, 128, generator=generator), dim=1).to(device, storage)
    padded = unit(torch.randn(sizes.documents, 300, 128, generator=generator), dim=2).to(device, storage)
    queries = ops.Ragged(query, torch.tensor([0, 32]))
    documents = ops.Ragged(padded.flatten(0, 1), torch.arange(sizes.documents + 1) * 300)

    def ours() -> Tensor:
        return ops.maxsim_score(queries, documents)

    def check() -> float:
        expected = reference.maxsim_score(_wide(queries), _wide(documents.select(range(64))))
        return _compare(ours()[:64], expected, 1e-4)

    yield Case(
        "MaxSim",
        f"1 x {sizes.documents} x 32 x 300 x 128",
        str(storage).removeprefix("torch."),
        ours,
        {
            "bare": lambda: documents.values @ query.T,
            "materialised": lambda: peers.maxsim_padded(query[None], padded),
            **peers.maxsim_libraries(query, padded),
        },
        check,
        flops=2.0 * documents.total * 32 * 128,
        bytes=_size(documents),
    )


def training_case(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """One step of SCAN t2i with the hardest negative: mined pairs against autograd through all of them."""
    collection = Collection(Sizes(sizes.batch, sizes.batch, sizes.rerank, sizes.documents, sizes.batch), device)
    regions = collection.images.values.clone().requires_grad_()
    words = collection.texts.values.clone().requires_grad_()
    images = ops.Ragged(regions, collection.images.offsets)
    texts = ops.Ragged(words, collection.texts.offsets)

    def mined() -> tuple[Tensor, ...]:
        loss = ops.hardest_negative_hinge(ops.focal_attention_score(images, texts))
        return torch.autograd.grad(loss, [regions, words])

    def everything() -> tuple[Tensor, ...]:
        scores = peers.scan_per_caption(regions.view(sizes.batch, collection.m, -1), texts)
        return torch.autograd.grad(ops.hardest_negative_hinge(scores), [regions, words])

    def check() -> float:
        return max(_compare(a, b, 1e-4) for a, b in zip(mined(), everything()))

    yield Case(
        "training step, mined pairs",
        f"batch {sizes.batch}, m=36, D=1024, t2i",
        "float32",
        mined,
        {"bare": everything},
        check,
    )

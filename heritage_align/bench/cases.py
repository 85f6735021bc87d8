"""Which shapes are measured on which device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from . import focal, pooled, training
from .case import Case


@dataclass(frozen=True)
class Sizes:
    """How large the CPU's cases are."""

    images: int = 128
    captions: int = 256
    store: int = 1000
    documents: int = 1000
    batch: int = 128


def cpu_cases(sizes: Sizes = Sizes()) -> list[Case]:
    """The shapes of the CPU table."""
    cpu = torch.device("cpu")
    cases = []
    for dtype in ("float32", "bfloat16", "int8"):
        for name, settings in (("SCAN t2i", focal.SCAN), ("BFAN both", focal.BFAN)):
            options = {"published": dtype == "float32", "in_float32": name == "SCAN t2i"}
            work = partial(focal.all_pairs, sizes.images, sizes.captions, cpu, dtype, settings, **options)
            cases.append(Case(name, dtype, work))
    for dtype in ("float16", "int8"):
        one = partial(pooled.patch_rerank, 1, sizes.store, sizes.store, cpu, dtype)
        many = partial(pooled.patch_rerank, 64, sizes.store // 4, sizes.store, cpu, dtype)
        cases += [Case("patch rerank, 1 query", dtype, one), Case("patch rerank, image-major", dtype, many)]
    cases.append(Case("MaxSim", "float32", partial(pooled.maxsim, 1, sizes.documents, 32, 300, 128, cpu)))
    cases.append(Case("training step, mined pairs", "float32", partial(training.mined_pairs, sizes.batch, cpu)))
    return cases


def gpu_cases() -> list[Case]:
    """The shapes of the GPU table; a goal names its case."""
    return [*_focal(), *_patches(), *_training(), *_maxsim()]


GPU = torch.device("cuda")
FOCAL = {
    "SCAN t2i": focal.SCAN,
    "SCAN i2t": {"direction": "i2t"},
    "BFAN both, equal": focal.BFAN,
    "BFAN both, prob": {**focal.BFAN, "focal": "prob"},
}


def _focal() -> Iterator[Case]:
    for dtype in ("float16", "int8"):
        for name, settings in FOCAL.items():
            options = {"in_float32": name == "SCAN t2i"}
            yield Case(name, dtype, partial(focal.all_pairs, 1000, 5000, GPU, dtype, settings, **options))
    yield Case("SCAN t2i", "bfloat16", partial(focal.all_pairs, 1000, 5000, GPU, "bfloat16", focal.SCAN))
    for m in (50, 64, 100, 196):
        for name in ("SCAN t2i", "BFAN both, equal"):
            work = partial(focal.all_pairs, 9000 // m, 2000, GPU, "float16", FOCAL[name], m=m)
            yield Case(f"{name}, m={m}", "float16", work)
    for name in ("SCAN t2i", "BFAN both, equal"):
        work = partial(focal.all_pairs, 1000, 250, GPU, "float16", FOCAL[name], published=True)
        yield Case(f"{name}, 250 captions", "float16", work)
    for n_texts, k in ((1, 1000), (64, 1000), (64, 100)):
        for name in ("SCAN t2i", "BFAN both, equal"):
            work = partial(focal.rerank, n_texts, k, 1000, GPU, "float16", FOCAL[name])
            yield Case(f"{name}, rerank {n_texts} x {k}", "float16", work)


def _patches() -> Iterator[Case]:
    for dtype in ("float16", "int8"):
        yield Case("patch softmax, all pairs", dtype, partial(pooled.patch_all_pairs, 1000, 4000, GPU, dtype))
        for n_queries, k in ((1, 1000), (16, 1000), (256, 250), (1000, 100)):
            work = partial(pooled.patch_rerank, n_queries, k, 4000, GPU, dtype)
            yield Case(f"patch rerank, {n_queries} x {k}", dtype, work)
    for name, temperature in (("raw", None), ("softmax", 0.01)):
        yield Case(f"fold_patches, {name}", "float16", partial(pooled.folding, 4000, GPU, temperature))


def _maxsim() -> Iterator[Case]:
    for shape in (
        (1, 1000, 1024, 1024, 128),  # ColPali
        (64, 1000, 32, 180, 128),
        (1, 10000, 32, 300, 128),
        (1, 1000, 32, 300, 128),
        (1, 1000, 32, 1024, 128),
        (5000, 1000, 13, 36, 1024),
    ):
        work = partial(pooled.maxsim, *shape, GPU, libraries=shape[-1] == 128)
        yield Case(f"MaxSim, {' x '.join(map(str, shape))}", "float16", work)


def _training() -> Iterator[Case]:
    yield Case("training step, mined pairs", "float32", partial(training.mined_pairs, 128, GPU))

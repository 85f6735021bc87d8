"""The CUDA drivers and kernels, compiled with g++ and run on the CPU, against the reference.

The public functions run as they would on a GPU: same plan, same bins, same sorted pairs; only the library behind
``torch.ops.heritage_align`` is the emulated one. What no emulation shows is left to test_cuda_gpu.py: rounding inside a
tensor-core product, approximate instructions, how operands and tensor maps are encoded, blocks that run at once,
streams and graphs. test_emulation_rules.py shows that the emulation notices what it is to notice.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import strategies as st

from heritage_align import ops
from heritage_align.ops import codes, factor, focal_attention, folding, maxsim, patch_weighted
from heritage_align.ops.focal_arguments import FocalArguments

HERE = Path(__file__).parent
FP32 = {"atol": 3e-6, "rtol": 3e-6}
# Focal attention of all pairs on Hopper rounds weights to float16 (attend.cuh): a score moves by 1e-6 as a rule, and by
# 2e-5 where texts have one or two words and images few regions.
HOPPER_FOCAL = {"atol": 5e-5, "rtol": 0.0}
HOPPER_FOCAL_SUM = {"atol": 5e-4, "rtol": 0.0}  # over texts of up to 50 words


cases = SimpleNamespace(**runpy.run_path(str(HERE / "emulation" / "cases.py")))
gradients = SimpleNamespace(**runpy.run_path(str(HERE / "emulation" / "gradients.py")))
ragged, candidate_lists = cases.ragged, cases.candidate_lists


@pytest.fixture(scope="module")
def library() -> Iterator[ctypes.CDLL]:
    build = SimpleNamespace(**runpy.run_path(str(HERE / "emulation" / "build.py")))
    path = build.compile_emulation(HERE.parents[1] / "build" / "emulation")
    if path is None:
        pytest.skip("the emulation of the CUDA kernels needs g++ and ninja")
    handle: ctypes.CDLL = build.load_emulation(path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the emulation has one; torch's others would only wait for work, busily
    yield handle
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def emulated(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[ctypes.CDLL]:
    """Every backend but the reference is the emulated CUDA one, on the path for sm_80 unless a test says otherwise."""
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", "ampere")
    for module in (factor, focal_attention, folding, maxsim, patch_weighted):
        monkeypatch.setattr(module, "pick", lambda backend, *_: "reference" if backend == "reference" else "cuda")
    path = partial(os.environ.get, "HERITAGE_ALIGN_CUDA_PATH")
    kernels_on = "heritage_align.ops.candidates.kernels_on"
    monkeypatch.setattr(kernels_on, lambda _: "sm_80" if path() == "ampere" else "hopper")
    monkeypatch.setattr(torch.ops, "heritage_align", torch.ops.heritage_align_emulated, raising=False)
    yield library
    library.set_thread_order(0)


def assert_focal(images: ops.Ragged, texts: ops.Ragged, tolerance: dict[str, float] = FP32, **settings: object) -> None:
    ours = ops.focal_attention_score(images, texts, **settings)
    theirs = ops.focal_attention_score(images, texts, backend="reference", **settings)
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.parametrize("direction", ["t2i", "i2t", "both"])
@pytest.mark.parametrize("shape", cases.SHAPES)
def test_focal_attention_of_all_shapes(shape: str, direction: str) -> None:
    regions, words, dim = cases.SHAPES[shape]
    assert_focal(ragged(regions, dim, 1), ragged(words, dim, 2), direction=direction)


@pytest.mark.parametrize("focal", [None, "equal", "prob", "sheng"])
@pytest.mark.parametrize(("rectifier", "normalise"), [("leaky_relu", "l2"), ("relu", "softmax"), ("none", "none")])
@pytest.mark.parametrize("aggregate", ["lse", "mean", "max", "sum"])
def test_focal_attention_of_all_settings(rectifier: str, normalise: str, focal: str | None, aggregate: str) -> None:
    # The text of one word gives equal logits to all regions on its side: they are focal together or not at all.
    assert_focal(
        ragged([9, 5], 16, 3),
        ragged([3, 2, 6, 1], 16, 4),
        direction="both",
        rectifier=rectifier,
        normalise=normalise,
        focal=focal,
        aggregate=aggregate,
        temperature=20.0,
    )


@pytest.mark.parametrize(("focal", "aggregate"), [(None, "lse"), ("equal", "mean"), ("prob", "max"), ("sheng", "sum")])
@pytest.mark.parametrize(("rectifier", "normalise"), [("leaky_relu", "l2"), ("relu", "none"), ("none", "l2")])
def test_focal_attention_of_all_settings_in_full_tiles(
    rectifier: str, normalise: str, focal: str | None, aggregate: str
) -> None:
    # Images that start at odd regions, more texts than a warp scores at a time, items of each number of fragments.
    images = ragged([9, 64, 1, 5, 36, 24, 55, 0, 40], 64, 51, torch.float16)
    texts = ragged([3, 2, 6, 1] + [1] * 40 + [50, 33, 20], 64, 52, torch.float16)
    settings = {"rectifier": rectifier, "normalise": normalise, "focal": focal, "aggregate": aggregate}
    keep = torch.arange(images.total) % 5 != 0
    assert_focal(images, texts, {"atol": 1e-5, "rtol": 1e-6}, direction="both", temperature=20.0, keep=keep, **settings)


@pytest.mark.parametrize("focal", [None, "equal", "prob", "sheng"])
def test_images_of_more_regions_than_a_warp_holds(focal: str | None) -> None:
    images, texts = ragged([100, 65, 7, 144, 36, 71, 72], 80, 71, torch.float16), ragged([13, 2, 64, 40, 1], 80, 72)
    keep = torch.arange(images.total) % 3 != 0
    keep[100:165] = False
    for settings in ({}, {"keep": keep, "aggregate": "mean", "temperature": 20.0, "focal": focal}):
        assert_focal(images, texts.to(dtype=torch.float16), {"atol": 1e-5, "rtol": 0.0}, **settings)


def test_query_items_of_more_than_a_bin_in_full_tiles() -> None:
    """Contexts have to fit the epilogue for tiles, 144 regions or 64 words; queries only the tile."""
    tolerance = {"atol": 1e-5, "rtol": 0.0}
    images, texts = ragged([36, 20, 64, 7], 40, 61, torch.float16), ragged([70, 128, 3, 60, 65], 40, 62, torch.float16)
    assert_focal(images, texts, tolerance)
    images, texts = ragged([144, 100, 3, 36], 40, 63, torch.float16), ragged([13, 64, 2], 40, 64, torch.float16)
    assert_focal(images, texts, tolerance, direction="i2t")


@hypothesis.settings(
    max_examples=25, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(
    regions=st.lists(st.integers(0, 64), max_size=6),
    words=st.lists(st.integers(0, 70), max_size=6),
    dim=st.integers(1, 40),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int8]),
    direction=st.sampled_from(["t2i", "i2t", "both"]),
    strided=st.booleans(),
)
def test_ragged_shapes_of_tiles(
    regions: list[int], words: list[int], dim: int, dtype: torch.dtype, direction: str, strided: bool
) -> None:
    images, texts = ragged(regions, dim, 65, dtype), ragged(words, dim, 66, dtype)
    if strided:  # rows that do not start at multiples of 16 bytes
        wide = torch.zeros(images.total, dim + 3, dtype=dtype)
        wide[:, 1 : dim + 1] = images.values
        images = ops.Ragged(wide[:, 1 : dim + 1], images.offsets, images.scales)
    assert_focal(images, texts, {"atol": 2e-5, "rtol": 0.0}, direction=direction)
    ours, theirs = (ops.maxsim_score(texts, images, backend=backend) for backend in ("auto", "reference"))
    torch.testing.assert_close(ours, theirs, atol=3e-5, rtol=1e-6)


def test_a_pair_alone_scores_as_in_a_tile_of_many() -> None:
    images = ragged([36, 5, 49, 0, 1, 33, 36, 36], 40, 67, torch.float16)
    texts = ragged([13, 0, 1, 25, 32, 7, *[2, 5] * 9], 40, 68, torch.float16)
    queries = ragged([1] * 9, 40, 69, torch.float16)
    focal = partial(ops.focal_attention_score, direction="both", focal="prob", aggregate="mean")
    softmax = partial(ops.patch_weighted_score, temperature=0.1)
    scores: list[tuple[ops.Ragged, Callable[[ops.Ragged, ops.Ragged], torch.Tensor]]] = [
        (texts, focal),
        (texts, lambda images, texts: ops.maxsim_score(texts, images)),
        (queries, lambda images, queries: softmax(queries.values, images)),
    ]
    for theirs, score in scores:
        together = score(images, theirs)
        for i in range(len(images)):
            for j in range(0, len(theirs), 4):
                assert torch.equal(score(images[i : i + 1], theirs[j : j + 1]).squeeze(), together[i, j])


@pytest.mark.parametrize("dim", [64, 72, 37])
@pytest.mark.parametrize(("regions", "words", "atol"), cases.PRODUCTS)
def test_focal_attention_of_all_dtypes(regions: torch.dtype, words: torch.dtype, atol: float, dim: int) -> None:
    images, texts = ragged([36, 30, 36, 36, 20], dim, 5, regions), ragged([13, 40, 22], dim, 6, words)
    assert_focal(images, texts, {"atol": atol, "rtol": 0.0}, direction="both")


def test_keep_and_an_image_that_keeps_nothing() -> None:
    images, texts = ragged([6, 4, 200], 16, 7), ragged([3, 5], 16, 8)
    keep = torch.rand(210, generator=torch.Generator().manual_seed(0)) > 0.5
    keep[6:10] = False
    for direction in ("t2i", "both"):
        assert_focal(images, texts, keep=keep, direction=direction, focal="equal")


def test_all_weights_equal_so_that_the_focal_filter_would_drop_all() -> None:
    row = torch.nn.functional.normalize(torch.ones(1, 8), dim=1)
    images = ops.Ragged(row.repeat(5, 1), torch.tensor([0, 5]))
    assert_focal(images, ragged([3], 8, 9), focal="equal", direction="both", temperature=0.0)


def test_regions_that_cancel() -> None:
    row = torch.nn.functional.normalize(torch.randn(1, 32, generator=torch.Generator().manual_seed(1)), dim=1)
    noise = torch.randn(1, 32, generator=torch.Generator().manual_seed(2))
    images = ops.Ragged(torch.cat([row, -row + 0.01 * noise]), torch.tensor([0, 2]))
    assert_focal(images, ragged([4], 32, 10), {"atol": 3e-5, "rtol": 0.0}, temperature=0.0)


@pytest.mark.parametrize("k", [1, 4, 30])
@pytest.mark.parametrize("direction", ["t2i", "both"])
def test_focal_attention_of_candidates(k: int, direction: str) -> None:
    images, texts = ragged([36, 5, 0, 150, 20, 9], 24, 11), ragged([5, 0, 13, 64, 70, 2], 24, 12)
    assert_focal(images, texts, direction=direction, candidates=candidate_lists(6, 6, k, 13))


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("global_mix", [0.0, 0.3])
@pytest.mark.parametrize("pooling", ["softmax", "max", "mean", "weights"])
def test_patch_weighted_of_candidates(pooling: str, global_mix: float, k: int) -> None:
    patches = ragged([196, 49, 0, 1, 300, 7], 48, 14, torch.float16)
    queries = ragged([1] * 9, 48, 15).values
    assert_patches(queries, patches, pooling, global_mix, candidate_lists(9, 6, k, 16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("pooling", ["softmax", "max", "mean", "weights"])
def test_patch_weighted_of_all_pairs(pooling: str, dtype: torch.dtype) -> None:
    patches = ragged([49, 49, 49, 0, 1, 30] if pooling == "max" else [196, 0, 49, 300, 1], 40, 17, dtype)
    queries = ragged([1] * 70, 40, 18).values.half().float()
    assert_patches(queries, patches, pooling, 0.25, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
def test_patch_weighted_reads_unaligned_rows(dtype: torch.dtype) -> None:
    patches = ragged([20, 33], 37, 19, dtype)
    queries = ragged([1] * 3, 37, 20).values.half().float()
    for candidates in (None, torch.tensor([[0, 1], [1, -1], [1, 0]])):
        assert_patches(queries, patches, "softmax", 0.0, candidates)


def assert_patches(
    queries: torch.Tensor,
    patches: ops.Ragged,
    pooling: str,
    global_mix: float,
    candidates: torch.Tensor | None,
) -> None:
    generator = torch.Generator().manual_seed(21)
    settings = {
        "pooling": pooling,
        "temperature": 0.1,
        "weights": torch.rand(patches.total, generator=generator) / 30 if pooling == "weights" else None,
        "global_features": torch.randn(len(patches), patches.dim, generator=generator) if global_mix else None,
        "global_mix": global_mix,
        "candidates": candidates,
    }
    ours = ops.patch_weighted_score(queries, patches, **settings)
    theirs = ops.patch_weighted_score(queries, patches, backend="reference", **settings)
    # bfloat16 patches meet queries rounded to bfloat16, float16 and int8 ones queries rounded to float16.
    atol = {torch.float32: 3e-6, torch.bfloat16: 3e-3}.get(patches.dtype, 5e-4)
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0.0)


@pytest.mark.parametrize("k", [None, 1, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int8])
def test_maxsim(dtype: torch.dtype, k: int | None) -> None:
    queries, documents = (
        ragged([5, 0, 32, 70, 64, 1], 40, 22, dtype),
        ragged([30, 300, 0, 145, 1, 2], 40, 23, dtype),
    )
    candidates = None if k is None else candidate_lists(6, 6, k, 24)
    ours = ops.maxsim_score(queries, documents, candidates=candidates)
    theirs = ops.maxsim_score(queries, documents, candidates=candidates, backend="reference")
    torch.testing.assert_close(ours, theirs, atol=3e-5, rtol=1e-6)


@pytest.mark.parametrize("dim", [45, 48, 304, 1040])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize(("temperature", "renormalise"), [(None, False), (0.02, True)])
def test_fold_patches(dim: int, dtype: torch.dtype, temperature: float | None, renormalise: bool) -> None:
    patches = ragged([30, 0, 1, 300], dim, 25, dtype)
    whole = ragged([1] * 4, dim, 26).values
    ours = ops.fold_patches(whole, patches, temperature=temperature, renormalise=renormalise)
    theirs = ops.fold_patches(whole, patches, temperature=temperature, renormalise=renormalise, backend="reference")
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int8])
def test_triangular_factor_reproduces_the_gram_matrix(dtype: torch.dtype) -> None:
    items = ragged([9, 0, 1, 40], 24, 27, dtype)
    packed = ops.triangular_factor(items)
    rows = items.dequantised().double()
    for i in range(len(items)):
        start, stop = int(items.offsets[i]), int(items.offsets[i + 1])
        m = stop - start
        square = torch.zeros(m, m, dtype=torch.float64)
        first = int(items.factor_offsets[i])
        square[tuple(torch.triu_indices(m, m))] = packed[first : first + m * (m + 1) // 2].double()
        torch.testing.assert_close(square.T @ square, rows[start:stop] @ rows[start:stop].T, atol=3e-7, rtol=0.0)
        if m > 24:
            assert square[24:].abs().max() < 1e-6


def test_the_scores_do_not_depend_on_the_order_of_threads(emulated: ctypes.CDLL) -> None:
    images, texts = (
        ragged([36, 20, 150, 3], 40, 28, torch.float16),
        ragged([5, 13, 70, 2], 40, 29, torch.float16),
    )
    candidates = candidate_lists(4, 4, 9, 30)
    results = []
    for order in (0, 1, 2, 3):
        emulated.set_thread_order(order)
        results.append(
            (
                ops.focal_attention_score(images, texts, direction="both", focal="prob"),
                ops.focal_attention_score(images, texts, direction="both", candidates=candidates),
                ops.maxsim_score(texts, images),
                ops.patch_weighted_score(texts.values[:9], images),
                ops.patch_weighted_score(texts.values[:4], images, candidates=candidates[:, :2].contiguous()),
                ops.fold_patches(images.values[:4], images, temperature=0.1, renormalise=True),
                ops.triangular_factor(images),
            )
        )
    for other in results[1:]:
        for ours, first in zip(other, results[0]):
            assert torch.equal(ours, first)


def test_no_bins_and_no_images_and_no_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts = ragged([9, 36], 16, 31), ragged([5, 20, 31, 1, 1], 16, 32)
    monkeypatch.setattr(focal_attention, "text_bins", lambda _: (None, None))
    assert_focal(images, texts)
    nothing = ops.Ragged(torch.zeros(0, 16), torch.tensor([0]))
    assert ops.focal_attention_score(nothing, texts).shape == (0, 5)
    assert ops.focal_attention_score(images, nothing).shape == (2, 0)
    assert ops.patch_weighted_score(texts.values, nothing).shape == (0, 58)


def test_rows_beyond_2_to_the_31_elements() -> None:
    """One wide stride over memory of which only the rows are ever touched."""
    stride = 2**30 + 512
    near, texts = ragged([1, 1, 1], 64, 33, torch.int8), ragged([4, 9], 64, 34, torch.int8)
    far = torch.empty(2 * stride + 64, dtype=torch.int8).as_strided((3, 64), (stride, 1))
    far.copy_(near.values)
    images = ops.Ragged(far, near.offsets, near.scales)
    ids = torch.tensor([[0, 2], [1, 2]])
    for settings in ({}, {"candidates": ids}):
        for score in (ops.focal_attention_score, ops.maxsim_score):
            first, second = (texts, images) if score is ops.maxsim_score else (images, texts)
            other = (texts, near) if score is ops.maxsim_score else (near, texts)
            assert torch.equal(score(first, second, **settings), score(*other, **settings))
        query = torch.ones(2, 64)
        assert torch.equal(
            ops.patch_weighted_score(query, images, **settings), ops.patch_weighted_score(query, near, **settings)
        )
    assert torch.equal(ops.triangular_factor(images), ops.triangular_factor(near))


def test_the_published_scores() -> None:
    golden = HERE.parents[2] / "shared" / "golden"
    if not golden.exists():
        pytest.skip(f"no golden vectors at {golden}")
    tensors = pytest.importorskip("safetensors.torch").load_file(golden / "shared_a.safetensors")
    settings_of = runpy.run_path(str(HERE / "test_golden.py"))["settings_of"]
    images = ops.Ragged.from_list(list(tensors["regions"]))
    texts = ops.Ragged.from_padded(tensors["words"], tensors["word_lengths"])
    for name, spec in json.loads((golden / "shared_a.json").read_text()).items():
        scores = ops.focal_attention_score(images, texts, **settings_of(name, spec))
        torch.testing.assert_close(scores, tensors[name], **FP32)


HOPPER_FOCAL_THREADS, HOPPER_POOLED_THREADS = 512, 384
HOPPER_FOCAL_PAIRS_THREADS = (512, 384)  # tiles of 16 words, of 32


@pytest.mark.parametrize("direction", ["t2i", "both"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("dim", [64, 200])
def test_focal_attention_on_the_hopper_path(
    dim: int, dtype: torch.dtype, direction: str, emulated: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", "hopper")
    images = ragged([36, 36, 20, 0, 1, 36, 7, 40, 30], dim, 40, dtype)
    texts = ragged([5, 0, 13, 64, 1, 25, 0, 2, 40, 30], dim, 41, dtype)
    keep = torch.arange(images.total) % 3 != 0
    for order in (1, 2):
        emulated.set_thread_order(order)
        emulated.largest_block()
        assert_focal(images, texts, HOPPER_FOCAL, direction=direction, keep=keep)
        assert emulated.largest_block() == HOPPER_FOCAL_THREADS
    if dtype == torch.int8:  # beside int8 regions, words of any other dtype are float16
        texts = ragged([5, 0, 13, 64, 1, 25, 0, 2, 40, 30], dim, 41, torch.float16)
        assert_focal(images, texts, HOPPER_FOCAL, direction=direction, keep=keep)
        assert emulated.largest_block() == HOPPER_FOCAL_THREADS


@pytest.mark.parametrize("focal", [None, "equal", "prob", "sheng"])
@pytest.mark.parametrize(("rectifier", "normalise"), [("leaky_relu", "l2"), ("relu", "none"), ("none", "l2")])
@pytest.mark.parametrize("aggregate", ["lse", "mean", "max", "sum"])
def test_focal_attention_of_all_settings_on_the_hopper_path(
    rectifier: str,
    normalise: str,
    focal: str | None,
    aggregate: str,
    emulated: ctypes.CDLL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", "hopper")
    # An image that starts at an odd region, more texts than a batch, and texts and images of one fragment.
    images = ragged([9, 64, 1, 5, 36, 24, 55, 0, 40], 64, 51, torch.float16)
    texts = ragged([3, 2, 6, 1] + [1] * 40 + [50, 33, 20], 64, 52, torch.float16)
    emulated.largest_block()
    settings = {"rectifier": rectifier, "normalise": normalise, "focal": focal, "aggregate": aggregate}
    tolerance = HOPPER_FOCAL_SUM if aggregate == "sum" else HOPPER_FOCAL
    # Logits of 4 have a bound that takes the place of each query's largest; those of 20 have not.
    for temperature in (20.0,) if focal is not None else (20.0, 4.0):
        assert_focal(images, texts, tolerance, direction="both", temperature=temperature, **settings)
    assert emulated.largest_block() == HOPPER_FOCAL_THREADS


def test_what_does_not_fit_the_hopper_path_takes_the_other(
    emulated: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", "hopper")
    small, long = ragged([36, 36, 36, 36, 36], 64, 42, torch.float16), ragged([150], 64, 43, torch.float16)
    texts, few = ragged([40, 40, 40], 64, 44, torch.float16), ragged([4], 64, 45, torch.float16)
    ids = torch.tensor([[0], [1], [2]])
    for images, captions, settings in [
        (long, texts, {}),
        (small, few, {}),
        (small, texts, {"candidates": ids}),
        (small.to(dtype=torch.float32), texts, {}),
        (ragged([36] * 5, 68, 46, torch.float16), ragged([40] * 3, 68, 47, torch.float16), {}),
    ]:
        emulated.largest_block()
        assert_focal(images, captions, {"atol": 1e-5, "rtol": 0.0}, **settings)
        assert emulated.largest_block() != HOPPER_FOCAL_THREADS


@pytest.mark.parametrize("k", [1, 2, 40])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("dim", [48, 64, 1040])
def test_patch_weighted_of_candidates_does_not_round_its_queries(dim: int, dtype: torch.dtype, k: int) -> None:
    patches = ragged([196, 0, 1, 60, 33, 16], dim, 48, dtype)
    queries = ragged([1] * 7, dim, 49).values
    ids = candidate_lists(7, 6, k, 50)
    score = partial(ops.patch_weighted_score, patches=patches, temperature=0.1, weights=None)
    theirs = score(queries, candidates=ids, backend="reference")
    torch.testing.assert_close(score(queries, candidates=ids), theirs, atol=5e-6, rtol=0.0)
    alone = torch.cat([score(queries[i : i + 1], candidates=ids[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(alone, theirs, atol=5e-6, rtol=0.0)


@pytest.mark.parametrize("path", ["ampere", "hopper"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dim", [72, 96, 1048])
def test_what_lies_between_rows_is_nothing_to_a_score(
    dim: int, dtype: torch.dtype, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are read in wide pieces; what a piece holds behind a row's end must not even be multiplied by zero."""
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", path)
    images, texts = ragged([36] * 5 + [20, 1], dim, 63, dtype), ragged([32, 40, 3, 9], dim, 64, dtype)
    candidates = candidate_lists(4, 7, 3, 65)

    def among_nans(items: ops.Ragged) -> ops.Ragged:
        room = torch.full((items.total, dim + 24), float("nan"), dtype=dtype)
        room[:, :dim] = items.values
        return ops.Ragged(room[:, :dim], items.offsets)

    def scores(images: ops.Ragged, texts: ops.Ragged) -> list[torch.Tensor]:
        one = {"candidates": candidates[:1]}
        return [
            ops.focal_attention_score(images, texts, direction="both"),
            ops.focal_attention_score(images, texts[2:], candidates=candidates[2:]),
            ops.maxsim_score(texts, images),
            ops.patch_weighted_score(texts.values, images),
            ops.patch_weighted_score(texts.values[:4], images, candidates=candidates),
            ops.patch_weighted_score(texts.values[:1], images, **one),
            ops.fold_patches(texts.values[:7], images, temperature=0.1),
            ops.triangular_factor(images),
        ]

    for ours, dense in zip(scores(among_nans(images), among_nans(texts)), scores(images, texts)):
        assert torch.equal(ours, dense)


def test_candidates_among_more_images_than_the_scan_takes_in_a_round(emulated: ctypes.CDLL) -> None:
    """Lists are ordered image by image where they ask for a quarter as many pairs; a round is of 4096 images."""
    emulated.set_thread_order(1)
    patches, queries = ragged([1] * 4100, 16, 60, torch.float16), ragged([1] * 16, 16, 61).values
    assert_patches(queries, patches, "max", 0.0, candidate_lists(16, 4100, 80, 62))


@pytest.mark.parametrize("direction", ["t2i", "i2t", "both"])
@pytest.mark.parametrize(
    ("dtype", "focal"),
    [(torch.float16, None), (torch.float16, "equal"), (torch.bfloat16, "prob"), (torch.int8, "sheng")],
)
@pytest.mark.parametrize(("dim", "k", "n_texts"), [(64, 1, 6), (96, 7, 1), (192, 30, 6), (64, 3, 70)])
def test_focal_attention_of_candidates_on_the_hopper_path(
    dim: int,
    k: int,
    n_texts: int,
    dtype: torch.dtype,
    focal: str | None,
    direction: str,
    emulated: ctypes.CDLL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", "hopper")
    monkeypatch.setattr(focal_attention, "ask_for_most", lambda *_: False)  # which would take another kernel
    images = ragged([36, 5, 0, 40, 20, 33, 1, 48] * (1 if n_texts < 16 else 4), dim, 51, dtype)
    texts = ragged([13, 0, 1, 25, 32, 7, *[2, 5] * 32][:n_texts], dim, 52, dtype)
    keep = torch.arange(images.total) % 3 != 0
    keep[36:41] = False
    ids = candidate_lists(n_texts, len(images), k, 53)  # 16 texts that asked for more would take all pairs
    score = partial(ops.focal_attention_score, images, direction=direction)
    for order, settings in ((1, {}), (2, {"keep": keep, "aggregate": "mean", "temperature": 20.0, "focal": focal})):
        emulated.set_thread_order(order)
        assert_focal(images, texts, {"atol": 1e-5, "rtol": 0.0}, direction=direction, candidates=ids, **settings)
    emulated.largest_block()
    few = min(n_texts, 12)
    alone = [score(texts=texts[i : i + 1], candidates=ids[i : i + 1]) for i in range(few)]
    assert emulated.largest_block() in HOPPER_FOCAL_PAIRS_THREADS  # several texts are also ordered, by larger blocks
    assert torch.equal(score(texts=texts, candidates=ids)[:few], torch.cat(alone))


@pytest.mark.parametrize("focal", [None, "equal", "prob", "sheng"])
@pytest.mark.parametrize(("rectifier", "normalise"), [("leaky_relu", "l2"), ("relu", "softmax"), ("none", "none")])
@pytest.mark.parametrize("aggregate", ["lse", "mean", "max", "sum"])
def test_focal_attention_of_candidates_of_all_settings_on_the_hopper_path(
    rectifier: str,
    normalise: str,
    focal: str | None,
    aggregate: str,
    emulated: ctypes.CDLL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", "hopper")
    # More regions than a warp has lanes, also more than a text has words; texts of one word, and two in a tile.
    images, texts = ragged([36, 48, 1, 9], 64, 54, torch.float16), ragged([13, 1, 20, 16], 64, 55, torch.float16)
    settings = {"rectifier": rectifier, "normalise": normalise, "focal": focal, "aggregate": aggregate}
    tolerance = {"atol": 1e-5, "rtol": 1e-6}
    for direction in ("t2i", "i2t", "both"):
        for text in (0, 1):
            emulated.largest_block()
            ids = torch.tensor([[3, 1, 0, 2, 1]])
            one = texts[text : text + 1]
            assert_focal(images, one, tolerance, direction=direction, temperature=20.0, candidates=ids, **settings)
            assert emulated.largest_block() in HOPPER_FOCAL_PAIRS_THREADS
        ids = candidate_lists(4, 4, 3, 56)
        assert_focal(images, texts, tolerance, direction=direction, temperature=20.0, candidates=ids, **settings)


@pytest.mark.parametrize(("regions", "words", "atol"), cases.PRODUCTS)
@pytest.mark.parametrize("direction", ["t2i", "both"])
def test_focal_attention_of_candidates_of_all_dtypes_on_the_hopper_path(
    regions: torch.dtype,
    words: torch.dtype,
    atol: float,
    direction: str,
    emulated: ctypes.CDLL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", "hopper")
    images, texts = ragged([36, 5, 0, 48, 20], 160, 57, regions), ragged([13, 2, 0, 32], 160, 58, words)
    for n_texts in (1, 4):
        ids = candidate_lists(n_texts, 5, 3, 59)
        emulated.largest_block()
        tolerance = {"atol": atol, "rtol": 0.0}
        assert_focal(images, texts[:n_texts], tolerance, direction=direction, candidates=ids)
        if n_texts == 1 and regions != torch.float32:
            assert emulated.largest_block() in HOPPER_FOCAL_PAIRS_THREADS


def test_texts_without_words_before_those_of_an_image_on_the_hopper_path(
    emulated: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than a list takes: then the first tile of an image has nothing to multiply."""
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", "hopper")
    images, texts = ragged([9] * 11, 64, 60, torch.int8), ragged([0] * 40 + [5, 3] + [0] * 40, 64, 61, torch.int8)
    ids = torch.full((82, 1), 7)
    for direction in ("t2i", "both"):
        for order in (1, 2):
            emulated.set_thread_order(order)
            assert_focal(images, texts, {"atol": 1e-5, "rtol": 0.0}, direction=direction, candidates=ids)


@hypothesis.settings(
    max_examples=15, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(
    regions=st.lists(st.integers(0, 48), min_size=1, max_size=6),
    words=st.lists(st.integers(0, 32), min_size=1, max_size=5),
    k=st.integers(1, 8),
    dim=st.sampled_from([64, 96, 160]),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.int8]),
    direction=st.sampled_from(["t2i", "i2t", "both"]),
)
def test_ragged_candidates_on_the_hopper_path(
    regions: list[int], words: list[int], k: int, dim: int, dtype: torch.dtype, direction: str
) -> None:
    images, texts = ragged(regions, dim, 65, dtype), ragged(words, dim, 66, dtype)
    ids = candidate_lists(len(words), len(regions), k, 67)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HERITAGE_ALIGN_CUDA_PATH", "hopper")
        assert_focal(images, texts, {"atol": 2e-5, "rtol": 0.0}, direction=direction, candidates=ids)


def test_the_hopper_path_is_the_default(emulated: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it fits, unless the environment keeps to the other; for lists that ask for most pairs that of all pairs."""
    images, texts = ragged([36] * 6, 64, 57, torch.float16), ragged([12] * 20, 64, 58, torch.float16)
    most, queries = candidate_lists(20, 6, 4, 59), texts.values[:9]
    calls: list[tuple[int, Callable[[], torch.Tensor]]] = [
        (HOPPER_FOCAL_THREADS, lambda: ops.focal_attention_score(images, texts)),
        (HOPPER_FOCAL_THREADS, lambda: ops.focal_attention_score(images, texts, candidates=most)),
        (HOPPER_FOCAL_PAIRS_THREADS[0], lambda: ops.focal_attention_score(images, texts[:1], candidates=most[:1])),
        (HOPPER_POOLED_THREADS, lambda: ops.maxsim_score(texts, images)),
        (HOPPER_POOLED_THREADS, lambda: ops.maxsim_score(texts, images, candidates=most)),
        (HOPPER_POOLED_THREADS, lambda: ops.patch_weighted_score(queries, images)),
    ]
    for path in (None, "hopper", "ampere"):
        if path is None:
            monkeypatch.delenv("HERITAGE_ALIGN_CUDA_PATH")
        else:
            monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", path)
        for threads, call in calls:
            emulated.largest_block()
            call()
            assert (emulated.largest_block() == threads) == (path != "ampere")


def test_lists_that_ask_for_most_images_take_the_kernel_for_all_pairs() -> None:
    images, texts = ragged([36, 5, 0, 20], 24, 54), ragged([5, 0, 13, 2] * 5, 24, 55)
    ids = candidate_lists(20, 4, 3, 56)
    for score, items in ((ops.focal_attention_score, (images, texts)), (ops.maxsim_score, (texts, images))):
        ours = score(*items, candidates=ids)
        theirs = score(*items, candidates=ids, backend="reference")
        torch.testing.assert_close(ours, theirs, atol=3e-5, rtol=0.0)


def test_every_score_of_nothing_is_written() -> None:
    """More than the blocks that write -inf take at once, and not a multiple of what a thread writes at once."""
    patches, queries = ragged([0] * 1500 + [1], 8, 57), ragged([1] * 1403, 8, 58).values
    scores = ops.patch_weighted_score(queries, patches)
    assert scores.numel() > 4 * 256 * 2048
    assert scores.numel() % 4 == 3
    assert torch.equal(torch.isinf(scores).all(dim=1), torch.arange(1501) < 1500)
    torch.testing.assert_close(scores[1500], queries @ patches.values[0], atol=3e-6, rtol=0.0)


@pytest.mark.parametrize("path", ["hopper", "ampere"])
def test_lists_of_a_fifth_of_the_pairs(path: str, emulated: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels for all pairs do them on the Hopper path; on the other they stay lists."""
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", path)
    documents, queries = ragged([36, 5, 0, 20, 9] * 2, 64, 54, torch.float16), ragged([5, 0, 13, 2] * 5, 64, 55)
    queries, ids = queries.to(dtype=torch.float16), candidate_lists(20, 10, 2, 56)
    emulated.largest_block()
    ours = ops.maxsim_score(queries, documents, candidates=ids)
    assert (emulated.largest_block() == HOPPER_POOLED_THREADS) == (path == "hopper")
    theirs = ops.maxsim_score(queries, documents, candidates=ids, backend="reference")
    torch.testing.assert_close(ours, theirs, atol=3e-5, rtol=0.0)


POOLED_LENGTHS = {
    "documents of all lengths": [30, 300, 0, 145, 1, 2, 128, 0, 0, 127, 129, 36, 36, 8],
    "short documents, more than a window of ends": [1] * 70 + [0] * 40 + [3, 1, 40] + [2] * 50,
    "one document": [5],
    "nothing but empty documents at the ends": [0, 0, 33, 0, 17, 0],
}


@pytest.mark.parametrize(
    ("dtype", "dim"),
    [
        *((torch.float16, 128), (torch.bfloat16, 40), (torch.float16, 192), (torch.float16, 600)),
        *((torch.int8, 128), (torch.int8, 48), (torch.int8, 192), (torch.int8, 400)),
    ],
)
@pytest.mark.parametrize("lengths", POOLED_LENGTHS)
def test_maxsim_on_the_hopper_path(
    lengths: str, dim: int, dtype: torch.dtype, emulated: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", "hopper")
    documents = ragged(POOLED_LENGTHS[lengths], dim, 51, dtype)
    for rows in ([5, 0, 32, 64, 1], [5, 0, 32, 70, 64, 1, 200, 13] + [32] * 9):
        queries = ragged(rows, dim, 52, dtype)
        theirs = ops.maxsim_score(queries, documents, backend="reference")
        for order in (1, 2):
            emulated.set_thread_order(order)
            emulated.largest_block()
            ours = ops.maxsim_score(queries, documents)
            assert emulated.largest_block() == HOPPER_POOLED_THREADS
            torch.testing.assert_close(ours, theirs, atol=3e-5, rtol=1e-6)


def test_scales_of_either_sign_on_the_hopper_path(emulated: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    """The maximum over a document's rows is of what the rows stand for, whatever the signs of both scales."""
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", "hopper")
    queries, documents = ragged([5, 32, 1, 64], 128, 53, torch.int8), ragged([30, 0, 200, 1], 128, 54, torch.int8)

    def signed(items: ops.Ragged) -> ops.Ragged:
        assert items.scales is not None
        return ops.Ragged(items.values, items.offsets, items.scales * (torch.arange(items.total) % 3 - 1.0))

    for theirs in (queries, queries.to(dtype=torch.float32)):
        emulated.largest_block()
        ours = [signed(theirs) if theirs.scales is not None else theirs, signed(documents)]
        scores = ops.maxsim_score(*ours)
        assert emulated.largest_block() == HOPPER_POOLED_THREADS
        expected = ops.maxsim_score(*ours, backend="reference")
        torch.testing.assert_close(scores, expected, atol=3e-5 if theirs.scales is not None else 2e-2, rtol=1e-6)


@pytest.mark.parametrize("global_mix", [0.0, 0.3])
@pytest.mark.parametrize("pooling", ["softmax", "max", "mean", "weights"])
@pytest.mark.parametrize(
    ("dim", "dtype"),
    [
        *((dim, dtype) for dim in (40, 512, 600) for dtype in (torch.float16, torch.bfloat16)),
        *((dim, torch.int8) for dim in (48, 512, 608)),
    ],
)
def test_patch_weighted_of_all_pairs_on_the_hopper_path(
    dim: int,
    pooling: str,
    dtype: torch.dtype,
    global_mix: float,
    emulated: ctypes.CDLL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", "hopper")
    patches = ragged([196, 49, 0, 1, 300, 7, 0], dim, 53, dtype)
    for n_queries in (9, 200):
        queries = ragged([1] * n_queries, dim, 54).values.half().float()
        for order in (1, 2):
            emulated.set_thread_order(order)
            emulated.largest_block()
            assert_patches(queries, patches, pooling, global_mix, None)
            assert emulated.largest_block() == HOPPER_POOLED_THREADS


@pytest.mark.parametrize("dtype", [torch.float16, torch.int8])
@pytest.mark.parametrize("pooling", ["softmax", "mean"])
def test_a_score_does_not_depend_on_the_images_before_it(
    pooling: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", "hopper")
    patches = ragged([13, 196, 49, 300, 77, 196, 1, 250], 64, 55, dtype)
    queries = ragged([1] * 70, 64, 56, torch.float16).values
    together = ops.patch_weighted_score(queries, patches, pooling=pooling, temperature=0.1)
    for image in range(len(patches)):
        alone = ops.patch_weighted_score(queries, patches[image : image + 1], pooling=pooling, temperature=0.1)
        assert torch.equal(alone[0], together[image])


def emulated_gradients(
    grad: torch.Tensor, images: ops.Ragged, texts: ops.Ragged, config: dict[str, Any]
) -> tuple[torch.Tensor, ...]:
    """What the backward of ops.focal_attention_score calls; autograd knows the real namespace alone."""
    settings = [
        (table := getattr(codes, f"{name.upper()}S"))[config.get(name, next(iter(table)))]
        for name in ("direction", "rectifier", "normaliser", "focal", "aggregate")
    ]
    keep, candidates = config.get("keep"), config.get("candidates")
    found: tuple[torch.Tensor, ...] = torch.ops.heritage_align.focal_attention_backward(
        grad,
        *FocalArguments(
            *(images.values, images.scales, images.offsets),
            *(texts.values, texts.scales, texts.offsets),
            keep,
            *(ops.triangular_factor(images), images.factor_offsets),
            *(ops.triangular_factor(texts), texts.factor_offsets),
            candidates,
            *settings,
            config.get("temperature", 9.0),
            config.get("lse_scale", 6.0),
            images.max_length,
            texts.max_length,
        ),
    )
    return found


def assert_focal_gradients(
    images: ops.Ragged, texts: ops.Ragged, tolerance: float = 2e-5, **config: Any
) -> tuple[torch.Tensor, ...]:
    """The emulated kernels against autograd through the reference in float64; about a third of the pairs matter."""
    grad = gradients.grad_of_a_third(images, texts, config.get("candidates"))
    found = emulated_gradients(grad, images, texts, config)
    assert all(gradient.dtype == torch.float32 for gradient in found)
    named = {"normalise" if name == "normaliser" else name: value for name, value in config.items()}
    gradients.assert_gradients(found, gradients.oracle(images, texts, grad, **named), tolerance)
    return found


# Lengths of which some pairs do not fit shared memory are in it ("both longer"), and texts enough for several chunks.
@pytest.mark.parametrize("direction", ["t2i", "i2t", "both"])
@pytest.mark.parametrize("shape", cases.SHAPES)
def test_focal_gradients_of_all_shapes(shape: str, direction: str) -> None:
    regions, words, dim = cases.SHAPES[shape]
    assert_focal_gradients(ragged(regions, dim, 1), ragged(words, dim, 2), 1e-3, direction=direction)


@pytest.mark.parametrize("focal", [None, "equal", "prob", "sheng"])
@pytest.mark.parametrize(("rectifier", "normaliser"), [("leaky_relu", "l2"), ("relu", "softmax"), ("none", "none")])
@pytest.mark.parametrize("aggregate", ["lse", "mean", "max", "sum"])
def test_focal_gradients_of_all_settings(rectifier: str, normaliser: str, focal: str | None, aggregate: str) -> None:
    config = {"rectifier": rectifier, "normaliser": normaliser, "focal": focal, "aggregate": aggregate}
    images, texts = ragged([9, 5, 0, 3], 32, 3), ragged([3, 2, 6, 0, 4], 32, 4)
    keep = torch.rand(images.total, generator=torch.Generator().manual_seed(5)) < 0.6
    keep[9:14] = False  # an image that would keep nothing
    assert_focal_gradients(images, texts, direction="both", keep=keep, temperature=4.0, **config)
    ids = candidate_lists(5, 4, 6, 61)
    assert_focal_gradients(images, texts, direction="both", candidates=ids, lse_scale=2.0, **config)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8])
def test_focal_gradients_of_stored_rows(dtype: torch.dtype) -> None:
    images, texts = ragged([9, 5, 0, 3], 300, 3, dtype), ragged([3, 2, 6, 0, 4], 300, 4, dtype)
    assert_focal_gradients(images, texts, direction="both")


def test_focal_gradients_do_not_depend_on_the_order_of_threads(emulated: ctypes.CDLL) -> None:
    images, texts = ragged([9, 5, 36, 3], 48, 3), ragged([3, 2, 6, 1, 4], 48, 4)
    found = []
    for order in (0, 1, 2):
        emulated.set_thread_order(order)
        found.append(assert_focal_gradients(images, texts, direction="both"))
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others))

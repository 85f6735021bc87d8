"""The CUDA kernels on a GPU, against the reference on the same device. Needs torch, numpy and pytest alone.

Every test runs on the path for sm_80 and newer, and on a Hopper GPU again on that for sm_90a.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from heritage_align import ops

HERE = Path(__file__).parent
GOLDEN = HERE.parents[2] / "shared" / "golden"
cases = SimpleNamespace(**runpy.run_path(str(HERE / "emulation" / "cases.py")))
candidate_lists = cases.candidate_lists

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU that torch can use"),
]


@pytest.fixture(params=["ampere", "hopper"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Which kernels run."""
    if request.param == "hopper" and torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("the Hopper path needs compute capability 9.0")
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", request.param)
    yield request.param
    torch.cuda.synchronize()


def ragged(lengths: list[int], dim: int, seed: int, dtype: torch.dtype = torch.float32) -> ops.Ragged:
    made: ops.Ragged = cases.ragged(lengths, dim, seed, dtype)
    return made.to(device="cuda")


# Focal attention of all pairs on Hopper rounds weights to float16 (attend.cuh): a score moves by 1e-6 as a rule, and by
# 2e-5 where texts have one or two words and images few regions.
FOCAL = 5e-5


def assert_same(call: Callable[..., torch.Tensor], atol: float) -> torch.Tensor:
    ours, theirs = call(backend="cuda"), call(backend="reference")
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=1e-6)
    return ours


@pytest.mark.parametrize("direction", ["t2i", "i2t", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", cases.SHAPES)
def test_focal_attention_of_all_shapes(shape: str, dtype: torch.dtype, direction: str) -> None:
    regions, words, dim = cases.SHAPES[shape]
    images, texts = ragged(regions, dim, 1, dtype), ragged(words, dim, 2, dtype)
    assert_same(lambda **how: ops.focal_attention_score(images, texts, direction=direction, **how), FOCAL)


@pytest.mark.parametrize("dim", [1024, 72, 37])
@pytest.mark.parametrize(("regions", "words", "atol"), cases.PRODUCTS)
def test_focal_attention_of_all_dtypes(regions: torch.dtype, words: torch.dtype, atol: float, dim: int) -> None:
    images, texts = ragged([36] * 9 + [20, 0, 30], dim, 3, regions), ragged([13, 40, 22, 7, 9, 25], dim, 4, words)
    assert_same(lambda **how: ops.focal_attention_score(images, texts, direction="both", **how), max(atol, FOCAL))


@pytest.mark.parametrize("focal", [None, "equal", "prob", "sheng"])
@pytest.mark.parametrize(("rectifier", "normalise"), [("leaky_relu", "l2"), ("relu", "softmax"), ("none", "none")])
@pytest.mark.parametrize("aggregate", ["lse", "mean", "max", "sum"])
def test_focal_attention_of_all_settings(rectifier: str, normalise: str, focal: str | None, aggregate: str) -> None:
    images, texts = ragged([9, 5], 16, 3), ragged([3, 2, 6, 1], 16, 4)
    keep = torch.tensor([True, False] * 7, device="cuda")
    settings = {"rectifier": rectifier, "normalise": normalise, "focal": focal, "aggregate": aggregate, "keep": keep}
    assert_same(
        lambda **how: ops.focal_attention_score(images, texts, direction="both", temperature=20.0, **settings, **how),
        1e-5,
    )


@pytest.mark.parametrize("focal", [None, "equal", "prob", "sheng"])
@pytest.mark.parametrize(("rectifier", "normalise"), [("leaky_relu", "l2"), ("relu", "none"), ("none", "softmax")])
@pytest.mark.parametrize("aggregate", ["lse", "mean", "max", "sum"])
def test_focal_attention_of_all_settings_in_half(
    rectifier: str, normalise: str, focal: str | None, aggregate: str
) -> None:
    """Large enough for the Hopper path: odd starts, one fragment, nothing kept, more texts than fit a batch."""
    images = ragged([36] * 5 + [9, 64, 1, 5, 24, 55, 0, 40], 128, 5, torch.float16)
    texts = ragged([3, 2, 6, 1] + [1] * 40 + [50, 33, 20], 128, 6, torch.float16)
    keep = torch.arange(images.total, device="cuda") % 3 != 0
    keep[36:72] = False
    settings = {"rectifier": rectifier, "normalise": normalise, "focal": focal, "aggregate": aggregate, "keep": keep}
    # With a filter, a weight within rounding of the threshold may go either way. Texts have up to 50 words.
    tolerance = (FOCAL if focal is None else 1e-3) * (10 if aggregate == "sum" else 1)
    for temperature in (20.0,) if focal is not None else (20.0, 4.0):
        assert_same(
            lambda t=temperature, **how: ops.focal_attention_score(
                images, texts, direction="both", temperature=t, **settings, **how
            ),
            tolerance,
        )


@pytest.mark.parametrize("file", ["shared_a", "shared_b", "shared_c"])
def test_golden_vectors(file: str) -> None:
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}")
    tensors = pytest.importorskip("safetensors.torch").load_file(GOLDEN / f"{file}.safetensors", device="cuda")
    settings_of = runpy.run_path(str(HERE / "test_golden.py"))["settings_of"]
    images = ops.Ragged.from_list(list(tensors["regions"]))
    texts = ops.Ragged.from_padded(tensors["words"], tensors["word_lengths"])
    for name, spec in json.loads((GOLDEN / f"{file}.json").read_text()).items():
        scores = ops.focal_attention_score(images, texts, backend="cuda", **settings_of(name, spec))
        torch.testing.assert_close(scores, tensors[name], atol=3e-6, rtol=3e-6)


@pytest.mark.parametrize("k", [1, 4, 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int8])
def test_focal_attention_of_candidates(dtype: torch.dtype, k: int) -> None:
    images, texts = ragged([36, 5, 0, 150, 20, 9], 24, 11, dtype), ragged([5, 0, 13, 64, 70, 2], 24, 12, dtype)
    ids = candidate_lists(6, 6, k, 13).cuda()
    assert_same(lambda **how: ops.focal_attention_score(images, texts, direction="both", candidates=ids, **how), 1e-5)


@pytest.mark.parametrize("focal", [None, "equal", "sheng"])
@pytest.mark.parametrize(("dim", "k", "n_texts"), [(1024, 300, 1), (1024, 9, 40), (192, 3, 6), (64, 7, 70)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("direction", ["t2i", "i2t", "both"])
def test_focal_attention_of_candidates_of_many_images(
    direction: str, dtype: torch.dtype, dim: int, k: int, n_texts: int, focal: str | None
) -> None:
    """Of fewer than a tenth of them, where there are 16 texts or more: others are picked out of all pairs."""
    if focal is not None and k * n_texts > (500 if direction == "t2i" else 100):
        pytest.skip("of hundreds of pairs, one or two may have a weight within rounding of the filter's threshold")
    lengths = [13, 0, 1, 16, 9, 7, *[12, 5] * 32][:n_texts]
    images, texts = ragged([36, 5, 0, 33, 20, 1, *[36] * 94], dim, 36, dtype), ragged(lengths, dim, 37, dtype)
    keep = torch.arange(images.total, device="cuda") % 3 != 0
    ids = candidate_lists(n_texts, 100, k, 38).cuda()
    score = partial(ops.focal_attention_score, images, direction=direction)
    assert_same(partial(score, texts, candidates=ids), FOCAL)
    settings = {"keep": keep, "focal": focal, "temperature": 20.0, "aggregate": "mean"}
    scores = assert_same(partial(score, texts, candidates=ids, **settings), FOCAL)
    if n_texts >= 16 and 10 * k >= len(images):
        return  # such lists are picked out of all pairs, by another kernel
    alone = score(texts[:1], candidates=ids[:1], backend="cuda", **settings)
    assert torch.equal(scores[:1], alone)


@pytest.mark.parametrize("focal", [None, "equal", "prob", "sheng"])
@pytest.mark.parametrize(("rectifier", "normalise"), [("leaky_relu", "l2"), ("relu", "softmax"), ("none", "none")])
@pytest.mark.parametrize("aggregate", ["lse", "mean", "max", "sum"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.int8])
def test_focal_attention_of_candidates_of_all_settings(
    dtype: torch.dtype, rectifier: str, normalise: str, focal: str | None, aggregate: str
) -> None:
    images, texts = ragged([36, 48, 1, 9], 64, 54, dtype), ragged([13, 1, 20, 16], 64, 55, dtype)
    settings = {"rectifier": rectifier, "normalise": normalise, "focal": focal, "aggregate": aggregate}
    score = partial(ops.focal_attention_score, images, temperature=20.0, **settings)
    for direction in ("t2i", "i2t", "both"):
        for some in (texts[:1], texts[1:2], texts):
            ids = candidate_lists(len(some), 4, 3, 56).cuda()
            assert_same(partial(score, some, direction=direction, candidates=ids), 1e-5 if focal is None else 1e-3)


@pytest.mark.parametrize(("regions", "words", "atol"), cases.PRODUCTS)
def test_focal_attention_of_candidates_of_all_dtypes(regions: torch.dtype, words: torch.dtype, atol: float) -> None:
    images, texts = ragged([36, 5, 0, 48, 20], 160, 57, regions), ragged([13, 2, 0, 32], 160, 58, words)
    for some in (texts[:1], texts):
        ids = candidate_lists(len(some), 5, 3, 59).cuda()
        score = partial(ops.focal_attention_score, images, some, direction="both", candidates=ids)
        assert_same(score, max(atol, 1e-5))


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("dim", [512, 48, 1040])
def test_patch_weighted_of_candidates_does_not_round_its_queries(dim: int, dtype: torch.dtype, k: int) -> None:
    patches, queries = ragged([196, 49, 0, 1, 300, 16], dim, 39, dtype), ragged([1] * 9, dim, 40).values
    ids = candidate_lists(9, 6, k, 41).cuda()
    assert_same(lambda **how: ops.patch_weighted_score(queries, patches, candidates=ids, **how), 2e-5)
    assert_same(lambda **how: ops.patch_weighted_score(queries[1:2], patches, candidates=ids[1:2], **how), 2e-5)


@pytest.mark.parametrize("k", [None, 1, 3, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("pooling", ["softmax", "max", "mean", "weights"])
@pytest.mark.parametrize("dim", [512, 37])
def test_patch_weighted(dim: int, pooling: str, dtype: torch.dtype, k: int | None) -> None:
    patches = ragged([196, 49, 0, 1, 300, 7], dim, 14, dtype)
    queries = ragged([1] * 9, dim, 15, torch.bfloat16).values.float()  # exact in float16 and in bfloat16
    assert_same(
        lambda **how: ops.patch_weighted_score(
            queries,
            patches,
            pooling=pooling,
            temperature=0.05,
            weights=torch.linspace(0, 0.1, patches.total, device="cuda") if pooling == "weights" else None,
            global_features=ragged([1] * 6, dim, 16).values,
            global_mix=0.3,
            candidates=None if k is None else candidate_lists(9, 6, k, 16).cuda(),
            **how,
        ),
        2e-5,
    )


@pytest.mark.parametrize("k", [None, 1, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
def test_maxsim(dtype: torch.dtype, k: int | None) -> None:
    queries, documents = ragged([5, 0, 32, 70, 64, 1], 128, 22, dtype), ragged([30, 300, 0, 145, 1, 2], 128, 23, dtype)
    ids = None if k is None else candidate_lists(6, 6, k, 24).cuda()
    assert_same(lambda **how: ops.maxsim_score(queries, documents, candidates=ids, **how), 5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_lists_that_ask_for_most_images_take_the_kernel_for_all_pairs(dtype: torch.dtype) -> None:
    images, texts = ragged([36, 5, 0, 20], 64, 54, dtype), ragged([5, 0, 13, 2] * 5, 64, 55, dtype)
    ids = candidate_lists(20, 4, 3, 56).cuda()
    assert_same(lambda **how: ops.focal_attention_score(images, texts, candidates=ids, **how), FOCAL)
    assert_same(lambda **how: ops.maxsim_score(texts, images, candidates=ids, **how), 5e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("dim", [40, 48, 128, 192, 512, 576, 600, 1024])
def test_pooling_of_many_ragged_items(dim: int, dtype: torch.dtype) -> None:
    """Items of all lengths, more than a stream's window of ends, and queries of several tiles."""
    lengths = torch.randint(0, 400, (14,), generator=torch.Generator().manual_seed(61)).tolist() + [1] * 20 + [0] * 40
    documents = ragged([*lengths, 1500, 128, 64, 0], dim, 62, dtype)
    queries = ragged([32] * 9 + [5, 0, 13, 64, 1], dim, 63, dtype)
    assert_same(lambda **how: ops.maxsim_score(queries, documents, **how), 5e-5)
    long = ragged([300, 3, 65], dim, 64, dtype)
    assert_same(lambda **how: ops.maxsim_score(long, documents, **how), 1e-3)
    rows = ragged([300], dim, 64, torch.float16 if dtype == torch.int8 else dtype).values
    for pooling in ("softmax", "max", "mean"):
        score = partial(ops.patch_weighted_score, rows, pooling=pooling, temperature=0.05)
        together = assert_same(partial(score, documents), 2e-5)
        for image in (0, 7, 13, 74):
            assert torch.equal(score(documents[image : image + 1], backend="cuda")[0], together[image])


def test_scales_of_either_sign() -> None:
    def signed(lengths: list[int], seed: int) -> ops.Ragged:
        items = ragged(lengths, 128, seed, torch.int8)
        assert items.scales is not None
        return ops.Ragged(items.values, items.offsets, items.scales * (torch.arange(items.total).cuda() % 3 - 1.0))

    queries, documents = signed([5, 32, 1, 64], 53), signed([30, 0, 200, 1], 54)
    assert_same(lambda **how: ops.maxsim_score(queries, documents, **how), 5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize(("temperature", "renormalise"), [(None, False), (0.02, True)])
@pytest.mark.parametrize("dim", [45, 512, 768])
def test_fold_patches(dim: int, dtype: torch.dtype, temperature: float | None, renormalise: bool) -> None:
    patches, whole = ragged([30, 0, 1, 300], dim, 25, dtype), ragged([1] * 4, dim, 26).values
    assert_same(
        lambda **how: ops.fold_patches(whole, patches, temperature=temperature, renormalise=renormalise, **how), 2e-5
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
def test_triangular_factor_equals_the_reference_up_to_the_sign_of_rows(dtype: torch.dtype) -> None:
    items = ragged([9, 0, 1, 20], 24, 27, dtype)
    ours, theirs = ops.triangular_factor(items, backend="cuda"), ops.triangular_factor(items, backend="reference")
    torch.testing.assert_close(ours.abs(), theirs.abs(), atol=1e-6, rtol=0.0)


def typical(dtype: torch.dtype = torch.float16) -> tuple[ops.Ragged, ops.Ragged]:
    """32 images of 36 regions and 40 captions of 3 to 25 words, 1024 wide."""
    lengths = torch.randint(3, 26, (40,), generator=torch.Generator().manual_seed(0)).tolist()
    return ragged([36] * 32, 1024, 31, dtype), ragged(lengths, 1024, 32, dtype)


def everything(images: ops.Ragged, texts: ops.Ragged, ids: torch.Tensor) -> list[torch.Tensor]:
    queries = (texts.values if texts.scales is None else texts.dequantised())[: len(texts)]
    whole = (images.values if images.scales is None else images.dequantised())[: len(images)]
    return [
        ops.focal_attention_score(images, texts, direction="both", focal="equal", backend="cuda"),
        ops.focal_attention_score(images, texts, candidates=ids, backend="cuda"),
        ops.maxsim_score(texts, images, backend="cuda"),
        ops.patch_weighted_score(queries, images, backend="cuda"),
        ops.patch_weighted_score(queries, images, candidates=ids, backend="cuda"),
        ops.patch_weighted_score(queries[:1], images, candidates=ids[:1], backend="cuda"),
        ops.fold_patches(whole, images, backend="cuda"),
        ops.triangular_factor(images, backend="cuda"),
    ]


def test_runs_repeat_bit_by_bit() -> None:
    images, texts = typical()
    ids = candidate_lists(40, 32, 10, 33).cuda()
    first = everything(images, texts, ids)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(everything(images, texts, ids), first))


def test_the_current_stream_is_used() -> None:
    images, texts = typical()
    ids = candidate_lists(40, 32, 10, 33).cuda()
    expected = everything(images, texts, ids)
    filled = ops.Ragged(torch.zeros_like(images.values), images.offsets)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)  # about a tenth of a second, in which another stream would read zeros
        filled.values.copy_(images.values)
        scores = everything(filled, texts, ids)
    stream.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(scores, expected))


def test_what_a_store_keeps_is_not_read_by_another_stream_before_it_is_there() -> None:
    images, texts = typical()
    expected = ops.focal_attention_score(images, texts, direction="both", backend="cuda")
    images, texts = ops.Ragged(images.values, images.offsets), ops.Ragged(texts.values, texts.offsets)
    ops.maxsim_score(texts, images, backend="cuda")  # which reads the bins of the texts, made by the host
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(200_000_000)
        later = ops.focal_attention_score(images, texts, direction="both", backend="cuda")
    sooner = ops.focal_attention_score(images, texts, direction="both", backend="cuda")
    torch.cuda.synchronize()
    assert torch.equal(sooner, expected)
    assert torch.equal(later, expected)


def test_nothing_waits_for_the_device_and_a_graph_replays() -> None:
    images, texts = typical()
    ids = candidate_lists(40, 32, 10, 33).cuda()
    expected = everything(images, texts, ids)
    torch.cuda.set_sync_debug_mode("error")
    try:
        everything(images, texts, ids)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = everything(images, texts, ids)
    saved = images.values.clone()
    images.values.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert not torch.equal(captured[0], expected[0])
    images.values.copy_(saved)
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(captured, expected))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16])
def test_rows_beyond_2_to_the_31_elements(dtype: torch.dtype) -> None:
    """Three images a billion elements apart, as one wide stride."""
    dim, stride = 64, 2**30 + 512
    elements = 2 * stride + dim
    if torch.cuda.mem_get_info()[0] < elements * dtype.itemsize + 2**30:
        pytest.skip("needs as much free GPU memory, and 1 GB")
    near = ragged([1, 1, 1], dim, 34, dtype)
    far = torch.empty(elements, dtype=dtype, device="cuda").as_strided((3, dim), (stride, 1))
    far.copy_(near.values)
    images = ops.Ragged(far, near.offsets, near.scales)
    texts = ragged([4, 9], dim, 35, dtype)
    ids = torch.tensor([[0, 2], [1, 2]], device="cuda")
    for ours, theirs in zip(everything(images, texts, ids), everything(near, texts, ids)):
        assert torch.equal(ours, theirs)

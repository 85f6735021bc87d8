"""Candidate lists on the CPU: many texts that share images, and what a pair's score may depend on.

An image's rows meet all texts that ask for it at once, so lists of 1, 2, 3 ... texts an image take different paths.
"""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heritage_align import ops
from heritage_align.ops import reference
from heritage_align.ops.backend import MISSING

pytestmark = pytest.mark.skipif(MISSING["cpu"] is not None, reason=f"no CPU kernels: {MISSING['cpu']}")

MakeRagged = Callable[..., ops.Ragged]
STORAGE = ["float32", "float16", "bfloat16", "int8"]
LEVELS = ["baseline", "avx2", "avx512", "avx512_vnni", "avx512_bf16"]
# Whole and broken steps of 4 x 16 numbers, of 16, of 64 bytes; from 256 on, int8 rows may meet rounded queries.
DIMS = [1, 15, 64, 100, 256, 300]
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def stored(ragged: ops.Ragged, storage: str) -> ops.Ragged:
    return ops.quantise(ragged) if storage == "int8" else ragged.to(dtype=getattr(torch, storage))


def apart(ragged: ops.Ragged) -> ops.Ragged:
    """The same rows, seven numbers apart, with NaN between them where the dtype has it."""
    filler = 99 if ragged.dtype == torch.int8 else float("nan")
    wide = torch.full((ragged.total, ragged.dim + 7), filler, dtype=ragged.dtype)
    wide[:, : ragged.dim] = ragged.values
    return ops.Ragged(wide[:, : ragged.dim], ragged.offsets, ragged.scales)


@quick
@given(
    st.lists(st.sampled_from([0, 1, 3, 4, 5, 16, 17, 50]), min_size=1, max_size=4),
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from(DIMS),
    st.sampled_from(["softmax", "max", "mean"]),
    st.sampled_from(STORAGE),
    st.booleans(),
    st.integers(0, 99),
)
def test_lists_that_share_images(
    make_ragged: MakeRagged,
    in_float64: Callable[[ops.Ragged], ops.Ragged],
    m: list[int],
    n_queries: int,
    k: int,
    dim: int,
    pooling: str,
    storage: str,
    mixed: bool,
    seed: int,
) -> None:
    patches = apart(stored(make_ragged(m, dim, seed), storage))
    queries = make_ragged([n_queries], dim, seed + 1).values
    whole = make_ragged([len(m)], dim, seed + 2).values if mixed else None
    ids = torch.randint(-1, len(m), (n_queries, k), generator=torch.Generator().manual_seed(seed))
    config = {"pooling": pooling, "temperature": 0.1, "global_mix": 0.3 if mixed else 0.0, "candidates": ids}
    scores = ops.patch_weighted_score(queries, patches, global_features=whole, backend="cpu", **config)
    expected = reference.patch_weighted_score(queries.double(), in_float64(patches), global_features=whole, **config)
    torch.testing.assert_close(scores.double(), expected, atol=1e-5, rtol=1e-5)


@quick
@given(st.sampled_from(DIMS), st.sampled_from(STORAGE), st.sampled_from([1, 3]), st.integers(0, 99))
def test_a_pair_has_one_score_in_every_list(
    make_ragged: MakeRagged, dim: int, storage: str, threads: int, seed: int
) -> None:
    """Bit for bit: alone, beside 1 to 19 other texts, and on other threads."""
    m, n = [17, 1, 0, 36, 4], [1, 3, 2, 5, 1, 0, 4, 9] * 3
    images, texts = stored(make_ragged(m, dim, seed), storage), stored(make_ragged(n, dim, seed + 1), storage)
    queries, whole = make_ragged([len(n)], dim, seed + 2).values, make_ragged([len(m)], dim, seed + 3).values
    ids = torch.arange(len(m)).expand(len(n), -1).contiguous()
    scores = {
        "patch": lambda some, c: ops.patch_weighted_score(
            queries[some], images, global_features=whole, global_mix=0.3, candidates=c, backend="cpu"
        ),
        "maxsim": lambda some, c: ops.maxsim_score(texts.select(some), images, candidates=c, backend="cpu"),
        "focal": lambda some, c: ops.focal_attention_score(
            images, texts.select(some), direction="both", focal="equal", candidates=c, backend="cpu"
        ),
    }
    before = torch.get_num_threads()
    try:
        for name, score in scores.items():
            torch.set_num_threads(1)
            dense = score(list(range(len(n))), ids)
            torch.set_num_threads(threads)
            for some in ([3], [0, 3], [3, 4, 7], list(range(3, 23))):
                sparse = score(some, ids[some].flip(1)).flip(1)
                assert torch.equal(sparse, dense[some]), (name, some)
    finally:
        torch.set_num_threads(before)


@quick
@given(st.sampled_from([256, 300, 512]), st.sampled_from([0.0, 3.0, 30.0]), st.integers(0, 99))
def test_queries_of_int8_patches_are_rounded_to_16_bits_at_most(
    make_ragged: MakeRagged, in_float64: Callable[[ops.Ragged], ops.Ragged], dim: int, outlier: float, seed: int
) -> None:
    """By half of the largest number of its lane / 32639, where lane l holds the numbers 4 l .. 4 l + 3 of every 64."""
    patches = ops.quantise(make_ragged([5, 9], dim, seed))
    queries = make_ragged([6], dim, seed + 1).values
    queries[:, 7] += outlier * queries.std()
    lane = torch.arange(dim) // 4 % 16
    step = torch.stack([queries[:, lane == i].abs().amax(1) for i in range(16)], dim=1)[:, lane].double() / 32639
    ids = torch.tensor([[0, 1]] * 6)
    scores = ops.patch_weighted_score(queries, patches, pooling="mean", candidates=ids, backend="cpu").double()
    exact = reference.patch_weighted_score(queries.double(), in_float64(patches), pooling="mean", candidates=ids)
    sizes = torch.stack([rows.double().abs().mean(0) for rows in in_float64(patches)], dim=1)
    assert bool(((scores - exact).abs() <= 0.5 * step @ sizes + 1e-6).all())


def test_one_number_by_hand() -> None:
    """The query (1, .3, 0 ...) by the patch (0, 100, 0 ...): 30; rounded to 9792 / 32639 where VNNI runs, 30.000919."""
    query, patch = torch.zeros(1, 256), torch.zeros(1, 256, dtype=torch.int8)
    query[0, :2] = torch.tensor([1.0, 0.3])
    patch[0, 1] = 100
    patches = ops.Ragged(patch, torch.tensor([0, 1]), torch.ones(1))
    score = ops.patch_weighted_score(query, patches, candidates=torch.tensor([[0]]), backend="cpu").item()
    assert min(abs(score - 30.0), abs(score - 979200 / 32639)) < 1e-5


@pytest.mark.parametrize("storage", STORAGE)
def test_a_query_that_is_not_finite_scores_nan(make_ragged: MakeRagged, storage: str) -> None:
    patches, queries = stored(make_ragged([5, 2], 256), storage), make_ragged([20], 256, 1).values
    queries[3, 100] = float("nan")
    ids = torch.tensor([[0, 1]] * 20)
    scores = ops.patch_weighted_score(queries, patches, pooling="mean", candidates=ids, backend="cpu")
    assert scores.isnan().any(1).nonzero().flatten().tolist() == [3]
    assert bool(scores[3].isnan().all())


CHECK_LEVEL = """
import sys, torch
from heritage_align import ops
from heritage_align.ops import reference
g = torch.Generator().manual_seed(0)
ids = torch.randint(-1, 4, (30, 3), generator=g)
for dim in (37, 300):
    rows = lambda n: torch.nn.functional.normalize(torch.randn(n, dim, generator=g) + 0.3, dim=1)
    images = ops.Ragged(rows(91), torch.tensor([0, 36, 38, 38, 91]))
    texts, queries = ops.Ragged(rows(90), torch.arange(31) * 3), rows(30)
    for store in (lambda r: r, lambda r: r.to(dtype=torch.float16), lambda r: r.to(dtype=torch.bfloat16), ops.quantise):
        i, t = store(images), store(texts)
        wide = [ops.Ragged(r.dequantised().double(), r.offsets) for r in (i, t)]
        for some in (slice(0, 1), slice(0, 30)):
            got = ops.patch_weighted_score(queries[some], i, temperature=0.1, candidates=ids[some], backend="cpu")
            exact = reference.patch_weighted_score(
                queries[some].double(), wide[0], temperature=0.1, candidates=ids[some])
            torch.testing.assert_close(got.double(), exact, atol=1e-5, rtol=1e-5)
        got = ops.maxsim_score(t, i, candidates=ids, backend="cpu")
        exact = reference.maxsim_score(wide[1], wide[0], candidates=ids)
        torch.testing.assert_close(got.double(), exact, atol=1e-5, rtol=1e-5)
        if i.dtype == torch.int8 and "vnni" in sys.argv[1]:  # whole numbers: lists have the bits of all pairs
            whole = ops.maxsim_score(t, i, backend="cpu").T.gather(1, ids.clamp_min(0))
            assert torch.equal(got, whole.masked_fill(ids < 0, float("-inf")))
print("fine")
"""


@pytest.mark.parametrize("level", LEVELS)
def test_every_instruction_level(level: str) -> None:
    environment = {"HERITAGE_ALIGN_CPU_LEVEL": level, "PATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHECK_LEVEL, level]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "is none of what runs here" in done.stderr:
        pytest.skip(f"this machine does not run {level}")
    assert done.stdout == "fine\n", done.stderr

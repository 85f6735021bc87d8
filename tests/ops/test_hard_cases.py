"""Where kernels of this kind go wrong: cancellation, ties, long items, huge stores, order and threads."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from heritage_align import ops
from heritage_align.ops import reference
from heritage_align.ops.backend import MISSING

pytestmark = pytest.mark.skipif(MISSING["cpu"] is not None, reason=f"no CPU kernels: {MISSING['cpu']}")

MakeRagged = Callable[..., ops.Ragged]
BFAN = {"direction": "both", "aggregate": "mean", "temperature": 20.0}


def oracle(images: ops.Ragged, texts: ops.Ragged, **config: object) -> torch.Tensor:
    wide = [ops.Ragged(r.dequantised().double(), r.offsets) for r in (images, texts)]
    return reference.focal_attention_score(*wide, **config)


def test_items_longer_than_a_tile(make_ragged: MakeRagged) -> None:
    images, texts = make_ragged([300, 5, 700], 40), make_ragged([90, 3, 200], 40, 1)
    for config in ({}, {"direction": "both", "focal": "sheng", "rectifier": "relu"}):
        scores = ops.focal_attention_score(images, texts, backend="cpu", **config)
        torch.testing.assert_close(scores.double(), oracle(images, texts, **config), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("distance", [1.0, 0.1, 0.01, 1e-3])
def test_opposite_regions_that_cancel(distance: float) -> None:
    """Regions u and -u + noise under flat attention: the attended vector is `distance` long, the error eps / distance.

    The Gram form would be off by eps / distance^2: 1e-2 at 1e-3, where this allows 1e-4.
    """
    generator = torch.Generator().manual_seed(3)
    u = torch.nn.functional.normalize(torch.randn(18, 256, generator=generator), dim=1)
    noise = torch.nn.functional.normalize(torch.randn(18, 256, generator=generator), dim=1)
    images = ops.Ragged(torch.cat([u, -u + distance * noise]), torch.tensor([0, 36]))
    texts = ops.Ragged(torch.randn(6, 256, generator=generator), torch.tensor([0, 6]))
    config = {"temperature": 0.0, "aggregate": "mean"}
    scores = ops.focal_attention_score(images, texts, backend="cpu", **config)
    torch.testing.assert_close(scores.double(), oracle(images, texts, **config), atol=2e-7 / distance + 1e-6, rtol=0)


def test_repeated_regions(make_ragged: MakeRagged) -> None:
    one = make_ragged([4], 32)
    images = ops.Ragged(one.values.repeat(9, 1), torch.tensor([0, 36]))
    texts = make_ragged([5, 2], 32, 1)
    for focal in (None, "equal", "prob", "sheng"):
        scores = ops.focal_attention_score(images, texts, focal=focal, backend="cpu")
        torch.testing.assert_close(scores.double(), oracle(images, texts, focal=focal), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("focal", ["equal", "prob", "sheng"])
@pytest.mark.parametrize("m", [1, 2, 3, 5, 7, 36, 64, 196])
def test_ties_at_the_focal_threshold(focal: str, m: int, make_ragged: MakeRagged) -> None:
    """Equal regions are all at the threshold: ">" would keep none, so the step is skipped; ">=" keeps all."""
    images = ops.Ragged(make_ragged([1], 24).values.repeat(m, 1), torch.tensor([0, m]))
    texts = make_ragged([4, 1], 24, 1)
    plain = ops.focal_attention_score(images, texts, backend="cpu")
    torch.testing.assert_close(ops.focal_attention_score(images, texts, focal=focal, backend="cpu"), plain)


def test_everything_filtered_is_ignored(make_ragged: MakeRagged) -> None:
    images, texts = make_ragged([5, 8], 16), make_ragged([3, 2], 16, 1)
    keep = torch.ones(13, dtype=torch.bool)
    keep[:5] = False
    scores = ops.focal_attention_score(images, texts, keep=keep, backend="cpu")
    torch.testing.assert_close(scores, ops.focal_attention_score(images, texts, backend="cpu"))
    keep[5:8] = False
    scores = ops.focal_attention_score(images, texts, keep=keep, backend="cpu")
    survivors = ops.Ragged(images.values[8:], torch.tensor([0, 5]))
    torch.testing.assert_close(scores[1:], ops.focal_attention_score(survivors, texts, backend="cpu"))


def test_keep_is_for_t2i_alone(make_ragged: MakeRagged) -> None:
    images, texts = make_ragged([5, 8], 16), make_ragged([3, 2], 16, 1)
    keep = torch.arange(13) % 2 == 0
    masked = ops.focal_attention_score(images, texts, keep=keep, direction="i2t", backend="cpu")
    torch.testing.assert_close(masked, ops.focal_attention_score(images, texts, direction="i2t", backend="cpu"))


def test_empty_items_and_empty_batches(make_ragged: MakeRagged) -> None:
    images, texts = make_ragged([0, 3, 0], 8), make_ragged([2, 0], 8, 1)
    for direction in ("t2i", "i2t", "both"):
        scores = ops.focal_attention_score(images, texts, direction=direction, backend="cpu")
        assert torch.isfinite(scores).tolist() == [[False, False], [True, False], [False, False]]
        assert bool((scores[~torch.isfinite(scores)] == float("-inf")).all())
    none = make_ragged([], 8)
    assert ops.focal_attention_score(none, texts, backend="cpu").shape == (0, 2)
    assert ops.focal_attention_score(images, none, backend="cpu").shape == (3, 0)
    assert ops.maxsim_score(texts, none, backend="cpu").shape == (0, 2)
    no_candidates = torch.empty(2, 0, dtype=torch.int64)
    assert ops.focal_attention_score(images, texts, candidates=no_candidates, backend="cpu").shape == (2, 0)


def test_scores_do_not_depend_on_the_batch(make_ragged: MakeRagged) -> None:
    """Bit for bit: a pair's sums run in one order whatever else is scored, alone or on however many threads."""
    images, texts = make_ragged([36, 10, 1, 36, 0, 50] * 6, 96), make_ragged([7, 12, 1, 30] * 5, 96, 1)
    whole = ops.focal_attention_score(images, texts, backend="cpu", **BFAN)
    part = ops.focal_attention_score(images[7:9], texts[3:5], backend="cpu", **BFAN)
    assert torch.equal(part, whole[7:9, 3:5])
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert torch.equal(ops.focal_attention_score(images, texts, backend="cpu", **BFAN), whole)
    finally:
        torch.set_num_threads(threads)


def test_permutations(make_ragged: MakeRagged) -> None:
    images, texts = make_ragged([36, 10, 1, 20], 64), make_ragged([7, 12, 1], 64, 1)
    whole = ops.focal_attention_score(images, texts, backend="cpu", **BFAN)
    order, text_order = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])
    shuffled = ops.focal_attention_score(images.select(order), texts.select(text_order), backend="cpu", **BFAN)
    assert torch.equal(shuffled, whole[order][:, text_order])
    within = torch.cat([torch.randperm(n) + start for n, start in zip([36, 10, 1, 20], images.offsets.tolist())])
    turned = ops.Ragged(images.values[within], images.offsets)
    torch.testing.assert_close(ops.focal_attention_score(turned, texts, backend="cpu", **BFAN), whole)


def test_candidates_equal_all_pairs(make_ragged: MakeRagged) -> None:
    images, texts = make_ragged([36, 10, 1, 20, 0], 64), make_ragged([7, 12, 1], 64, 1)
    factor, text_factor = ops.triangular_factor(images), ops.triangular_factor(texts)
    ids = torch.tensor([[3, 0, -1, 3], [4, 1, 2, 0], [-1, -1, -1, -1]])
    whole = ops.focal_attention_score(images, texts, **BFAN).T
    for given_factors in ({}, {"image_factor": factor, "text_factor": text_factor}):
        scores = ops.focal_attention_score(images, texts, candidates=ids, backend="cpu", **given_factors, **BFAN)
        expected = whole.gather(1, ids.clamp_min(0)).masked_fill(ids < 0, float("-inf"))
        torch.testing.assert_close(scores, expected, atol=2e-6, rtol=2e-6)


def test_rows_beyond_two_to_the_31_elements() -> None:
    """int32 row bases would wrap. 2.2 billion bytes are reserved and a few pages of them touched."""
    dim, m = 1024, 30
    n_images = 2**31 // (m * dim) + 8
    values = torch.empty(n_images * m, dim, dtype=torch.int8)
    scales = torch.empty(n_images * m)
    last = ops.quantise(ops.Ragged(torch.randn(m, dim), torch.tensor([0, m])))
    assert last.scales is not None
    values[-m:], scales[-m:] = last.values, last.scales
    images = ops.Ragged(values, torch.arange(n_images + 1) * m, scales)
    assert (images.total - m) * dim > 2**31
    texts = ops.Ragged(torch.randn(4, dim), torch.tensor([0, 4]))
    far = ops.focal_attention_score(images, texts, candidates=torch.tensor([[n_images - 1]]), backend="cpu")
    assert torch.equal(far, ops.focal_attention_score(last, texts, candidates=torch.tensor([[0]]), backend="cpu"))


def test_rows_may_overlap_or_lie_apart(make_ragged: MakeRagged) -> None:
    texts = make_ragged([3], 16, 1)
    wide = torch.randn(10, 40)
    apart = ops.Ragged(wide[:, 3:19], torch.tensor([0, 4, 10]))
    packed = ops.Ragged(wide[:, 3:19].contiguous(), apart.offsets)
    assert torch.equal(ops.focal_attention_score(apart, texts), ops.focal_attention_score(packed, texts))
    same = ops.Ragged(wide[:1, :16].expand(6, 16), torch.tensor([0, 6]))
    assert same.values.stride(0) == 0
    copied = ops.Ragged(same.values.contiguous(), same.offsets)
    assert torch.equal(ops.focal_attention_score(same, texts), ops.focal_attention_score(copied, texts))


CHECK_LEVEL = """
import torch
from heritage_align import ops
from heritage_align.ops import reference
g = torch.Generator().manual_seed(0)
rows = lambda n: torch.nn.functional.normalize(torch.randn(n, 100, generator=g) + 0.3, dim=1)
images = ops.Ragged(rows(91), torch.tensor([0, 36, 38, 38, 91]))
texts = ops.Ragged(rows(40), torch.tensor([0, 13, 15, 40]))
for store in (lambda r: r, lambda r: r.to(dtype=torch.float16), lambda r: r.to(dtype=torch.bfloat16), ops.quantise):
    i, t = store(images), store(texts)
    wide = [ops.Ragged(r.dequantised().double(), r.offsets) for r in (i, t)]
    for ids in (None, torch.tensor([[0, 1], [3, 2], [3, -1]])):
        for config in ({}, {"direction": "both", "focal": "prob", "aggregate": "mean", "temperature": 20.0}):
            got = ops.focal_attention_score(i, t, candidates=ids, backend="cpu", **config).double()
            torch.testing.assert_close(
                got, reference.focal_attention_score(*wide, candidates=ids, **config), atol=1e-5, rtol=1e-5)
        got = ops.patch_weighted_score(t.dequantised(), i, candidates=None, backend="cpu").double()
        torch.testing.assert_close(got, reference.patch_weighted_score(wide[1].values, wide[0]), atol=3e-5, rtol=1e-5)
        got = ops.maxsim_score(t, i, candidates=ids, backend="cpu").double()
        torch.testing.assert_close(got, reference.maxsim_score(wide[1], wide[0], candidates=ids), atol=1e-5, rtol=1e-5)
for config in ({}, {"direction": "both", "focal": "prob", "aggregate": "mean", "temperature": 20.0}):
    found = []
    for dtype, backend in ((torch.float32, "cpu"), (torch.float64, "reference")):
        i, t = (ops.Ragged(r.values.to(dtype, copy=True).requires_grad_(), r.offsets) for r in (images, texts))
        scores = ops.focal_attention_score(i, t, backend=backend, **config)
        loss = scores[torch.isfinite(scores)].sum()
        found.append([g.double() for g in torch.autograd.grad(loss, [i.values, t.values])])
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)
print("fine")
"""


@pytest.mark.parametrize("level", ["baseline", "avx2", "avx512", "avx512_vnni", "avx512_bf16"])
def test_every_instruction_level(level: str) -> None:
    environment = {"HERITAGE_ALIGN_CPU_LEVEL": level, "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHECK_LEVEL], env=environment, capture_output=True, text=True, check=False
    )
    if "is none of what runs here" in done.stderr:
        pytest.skip(f"this machine does not run {level}")
    assert done.stdout == "fine\n", done.stderr

"""The kernels against the float64 oracle on ragged shapes of every kind.

Tolerances: the gate compares with the oracle on the same rounded rows, so storage does not enter; what is left is
float32 arithmetic. 1e-5 covers the largest seen (3e-6: logits of 20 with one unit in the last place).
"""

from collections.abc import Callable
from typing import Any

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
some_lengths = st.lists(st.sampled_from([0, 1, 2, 3, 7, 16, 17, 36]), min_size=1, max_size=7)
some_dims = st.sampled_from([1, 3, 8, 15, 16, 33, 64, 100])
focal_settings = st.fixed_dictionaries(
    {
        "direction": st.sampled_from(["t2i", "i2t", "both"]),
        "rectifier": st.sampled_from(["leaky_relu", "relu", "none"]),
        "normalise": st.sampled_from(["l2", "softmax", "none"]),
        "temperature": st.sampled_from([0.0, 4.0, 9.0, 20.0]),
        "focal": st.sampled_from([None, "equal", "prob", "sheng"]),
        "aggregate": st.sampled_from(["lse", "mean", "max", "sum"]),
        "lse_scale": st.sampled_from([1.0, 6.0, 50.0]),
    }
)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def stored(ragged: ops.Ragged, storage: str) -> ops.Ragged:
    return ops.quantise(ragged) if storage == "int8" else ragged.to(dtype=getattr(torch, storage))


def some_candidates(n_texts: int, n_images: int, k: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-1, n_images, (n_texts, k), generator=generator)


def focal_margin(images: ops.Ragged, texts: ops.Ragged, focal: str | None, config: dict[str, Any]) -> float:
    """How near, relative to its threshold, the closest filter decision comes to its bound."""
    if focal is None:
        return 1.0
    margins = [1.0]
    tolerance = reference.FOCAL_TOLERANCE * (1 + config["temperature"])
    for regions in images:
        for words in texts:
            sides = {"t2i": [(words, regions)], "i2t": [(regions, words)]}
            for queries, contexts in sides.get(config["direction"], [(words, regions), (regions, words)]):
                if not len(queries) or len(contexts) < 2:
                    continue
                cosines = reference.rectified(contexts @ queries.T, config["rectifier"])
                axis = reference.normalised(cosines, config["normalise"], exact_ties=True)
                p = (config["temperature"] * axis.T).softmax(dim=-1)
                g = {"equal": torch.ones_like(p), "prob": p.sqrt(), "sheng": p}[focal]
                gap = p * g.sum(-1, keepdim=True) / (p * g).sum(-1, keepdim=True) - 1
                lead = gap.amax(-1)
                margins.append(float((lead - tolerance).abs().min()))
                if bool((lead > tolerance).any()):  # weights that tie are kept together, wherever the others lie
                    margins.append(float(gap[lead > tolerance].abs().min()))
    return min(margins)


@quick
@given(
    some_lengths, some_lengths, some_dims, focal_settings, st.sampled_from(STORAGE), st.booleans(), st.integers(0, 99)
)
def test_focal_attention(
    make_ragged: MakeRagged,
    in_float64: Callable[[ops.Ragged], ops.Ragged],
    m: list[int],
    n: list[int],
    dim: int,
    config: dict[str, Any],
    storage: str,
    listed: bool,
    seed: int,
) -> None:
    images, texts = stored(make_ragged(m, dim, seed), storage), stored(make_ragged(n, dim, seed + 1), storage)
    keep = torch.rand(images.total, generator=torch.Generator().manual_seed(seed)) > 0.4 if seed % 2 else None
    candidates = some_candidates(len(texts), len(images), 3, seed) if listed else None
    if focal_margin(in_float64(images), in_float64(texts), config["focal"], config) < 3e-6:
        return  # rounding decides which regions the filter keeps
    scores = ops.focal_attention_score(images, texts, keep=keep, candidates=candidates, backend="cpu", **config)
    expected = reference.focal_attention_score(
        in_float64(images), in_float64(texts), keep=keep, candidates=candidates, **config
    )
    torch.testing.assert_close(scores.double(), expected, atol=1e-5, rtol=1e-5)


@quick
@given(
    some_lengths,
    st.integers(0, 40),
    some_dims,
    st.sampled_from(["softmax", "max", "mean", "weights"]),
    st.sampled_from([0.01, 0.1, 1.0]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from(STORAGE),
    st.booleans(),
    st.integers(0, 99),
)
def test_patch_weighted(
    make_ragged: MakeRagged,
    in_float64: Callable[[ops.Ragged], ops.Ragged],
    m: list[int],
    n_queries: int,
    dim: int,
    pooling: str,
    temperature: float,
    mix: float,
    storage: str,
    listed: bool,
    seed: int,
) -> None:
    patches = stored(make_ragged(m, dim, seed), storage)
    queries = make_ragged([n_queries], dim, seed + 1).values
    weights = (
        torch.randn(patches.total, generator=torch.Generator().manual_seed(seed)) if pooling == "weights" else None
    )
    whole = make_ragged([len(m)], dim, seed + 2).values if mix else None
    config = {"pooling": pooling, "temperature": temperature, "weights": weights, "global_mix": mix}
    candidates = some_candidates(n_queries, len(patches), 3, seed) if listed else None
    scores = ops.patch_weighted_score(
        queries, patches, global_features=whole, candidates=candidates, backend="cpu", **config
    )
    expected = reference.patch_weighted_score(
        queries.double(), in_float64(patches), global_features=whole, candidates=candidates, **config
    )
    # A softmax at 0.01 multiplies the cosines' rounding by 100.
    torch.testing.assert_close(scores.double(), expected, atol=3e-5, rtol=1e-5)


@quick
@given(some_lengths, some_lengths, some_dims, st.sampled_from(STORAGE), st.booleans(), st.integers(0, 99))
def test_maxsim(
    make_ragged: MakeRagged,
    in_float64: Callable[[ops.Ragged], ops.Ragged],
    m: list[int],
    n: list[int],
    dim: int,
    storage: str,
    listed: bool,
    seed: int,
) -> None:
    documents, queries = stored(make_ragged(m, dim, seed), storage), stored(make_ragged(n, dim, seed + 1), storage)
    candidates = some_candidates(len(queries), len(documents), 4, seed) if listed else None
    scores = ops.maxsim_score(queries, documents, candidates=candidates, backend="cpu")
    expected = reference.maxsim_score(in_float64(queries), in_float64(documents), candidates=candidates)
    torch.testing.assert_close(scores.double(), expected, atol=1e-5, rtol=1e-5)


@quick
@given(some_lengths, some_dims, st.sampled_from(STORAGE), st.sampled_from([None, 0.02, 1.0]), st.booleans())
def test_folding(
    make_ragged: MakeRagged,
    in_float64: Callable[[ops.Ragged], ops.Ragged],
    m: list[int],
    dim: int,
    storage: str,
    temperature: float | None,
    renormalise: bool,
) -> None:
    patches, whole = stored(make_ragged(m, dim), storage), make_ragged([len(m)], dim, 5).values
    config = {"temperature": temperature, "renormalise": renormalise}
    folded = ops.fold_patches(whole, patches, backend="cpu", **config)
    expected = reference.fold_patches(whole.double(), in_float64(patches), **config)
    torch.testing.assert_close(folded.double(), expected, atol=2e-5, rtol=1e-5)


@quick
@given(some_lengths, some_dims, st.sampled_from(STORAGE))
def test_factor(
    make_ragged: MakeRagged,
    in_float64: Callable[[ops.Ragged], ops.Ragged],
    m: list[int],
    dim: int,
    storage: str,
) -> None:
    rows = stored(make_ragged(m, dim), storage)
    packed = ops.triangular_factor(rows, backend="cpu").double()
    assert packed.shape == (rows.factor_size,)
    for i, start in enumerate(rows.factor_offsets[:-1].tolist()):
        k = int(rows.lengths[i])
        r = torch.zeros(k, k, dtype=torch.float64)
        r[tuple(torch.triu_indices(k, k))] = packed[start : start + k * (k + 1) // 2]
        v = in_float64(rows).item(i)
        torch.testing.assert_close(r.T @ r, v @ v.T, atol=5e-7, rtol=0)


def test_offsets_scales_and_keep_may_be_columns_of_a_table() -> None:
    images = ops.quantise(ops.Ragged(torch.randn(13, 16), torch.tensor([0, 5, 11, 13])))
    texts = ops.Ragged(torch.randn(7, 16), torch.tensor([0, 3, 7]))
    keep = torch.arange(13) % 3 != 0

    def column(values: torch.Tensor | None) -> torch.Tensor:
        assert values is not None
        return torch.stack([values, torch.ones_like(values)], dim=1)[:, 0]

    same = ops.Ragged(images.values, column(images.offsets), column(images.scales))
    for ours, theirs in (
        (ops.maxsim_score(texts, same), ops.maxsim_score(texts, images)),
        (
            ops.focal_attention_score(same, texts, keep=column(keep)),
            ops.focal_attention_score(images, texts, keep=keep),
        ),
    ):
        assert torch.equal(ours, theirs)


def test_global_features_of_float64_take_the_reference() -> None:
    patches, queries = ops.Ragged(torch.randn(13, 16), torch.tensor([0, 5, 11, 13])), torch.randn(4, 16)
    whole = torch.randn(3, 16)
    ours = ops.patch_weighted_score(queries, patches, global_features=whole.double(), global_mix=0.5)
    theirs = ops.patch_weighted_score(queries, patches, global_features=whole, global_mix=0.5)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)

"""Bad input gets one ValueError that names the argument, what was expected and what came."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from heritage_align import ops

IMAGES = ops.Ragged(torch.randn(9, 6), torch.tensor([0, 4, 9]))
TEXTS = ops.Ragged(torch.randn(5, 6), torch.tensor([0, 2, 5]))
OTHER_DIM = ops.Ragged(torch.randn(5, 7), torch.tensor([0, 2, 5]))
WIDE = ops.Ragged(torch.randn(5, 6, dtype=torch.float64), torch.tensor([0, 2, 5]))
NAN = ops.Ragged(torch.tensor([[1.0] * 6, [float("nan")] * 6]), torch.tensor([0, 2]))
QUERIES = torch.randn(3, 6)


def focal(**settings: Any) -> Callable[[], torch.Tensor]:
    images, texts = settings.pop("images", IMAGES), settings.pop("texts", TEXTS)
    return lambda: ops.focal_attention_score(images, texts, **settings)


def patch(**settings: Any) -> Callable[[], torch.Tensor]:
    queries, patches = settings.pop("queries", QUERIES), settings.pop("patches", IMAGES)
    return lambda: ops.patch_weighted_score(queries, patches, **settings)


BAD = [
    (focal(images=QUERIES), r"images must be a Ragged; got a float32 tensor of shape \(3, 6\)"),
    (focal(texts=OTHER_DIM), "images and texts must have rows of one length; got 6 and 7"),
    (focal(direction="t2v"), "direction must be one of 't2i', 'i2t', 'both'; got 't2v'"),
    (focal(rectifier="gelu"), "rectifier must be one of"),
    (focal(normalise="l1"), "normalise must be one of"),
    (focal(focal="Equal"), "focal must be one of None, 'equal'"),
    (focal(aggregate="median"), "aggregate must be one of"),
    (focal(temperature=float("nan")), "temperature must be finite and 0 or greater; got nan"),
    (focal(temperature=-1), "temperature must be finite and 0 or greater; got -1"),
    (focal(temperature=torch.tensor(1.0)), "temperature must be a number"),
    (focal(lse_scale=0), "lse_scale must be finite and greater than 0; got 0"),
    (focal(keep=torch.ones(8, dtype=torch.bool)), r"keep must have shape \(9\)"),
    (focal(keep=torch.ones(9)), "keep must have dtype bool"),
    (focal(image_factor=torch.zeros(4)), "image_factor must hold 25 numbers"),
    (focal(text_factor=torch.zeros(9, dtype=torch.float64)), "text_factor must have dtype"),
    (focal(candidates=torch.zeros(3, 2, dtype=torch.int64)), r"candidates must have shape \(2, any\)"),
    (focal(candidates=torch.zeros(2, 2)), "candidates must have dtype int64, int32"),
    (focal(candidates=torch.tensor([[0], [2]])), r"candidates must be image ids in 0\.\.1, or -1 for none; got 2"),
    (focal(candidates=torch.tensor([[0], [-2]])), "candidates must be image ids .* got -2"),
    (focal(candidates=[[0], [1]]), "candidates must be a tensor"),
    (focal(images=NAN, check_finite=True), r"images\.values must be finite; row 1 holds NaN or infinity \(6 values"),
    (focal(backend="tpu"), "backend must be one of 'auto', 'reference', 'cpu', 'cuda'"),
    (focal(backend="cuda"), "backend 'cuda' needs inputs on cuda; they are on cpu"),
    (focal(texts=WIDE, backend="cpu"), "backend 'cpu' stores float32, float16, bfloat16 or int8; got float64"),
    (patch(queries=torch.randn(3, 5)), r"queries must have shape \(any, 6\)"),
    (patch(queries=torch.zeros(3, 6, dtype=torch.int8)), "queries must have dtype"),
    (patch(pooling="median"), "pooling must be one of"),
    (patch(pooling=["max"]), r"pooling must be one of .* got \['max'\]"),
    (patch(pooling="weights"), "weights must be given with pooling 'weights' and with no other"),
    (patch(weights=torch.ones(9)), "weights must be given with pooling 'weights' and with no other"),
    (patch(weights=torch.ones(8), pooling="weights"), r"weights must have shape \(9\)"),
    (patch(temperature=0), "temperature must be finite and greater than 0"),
    (patch(global_mix=1.5), r"global_mix must lie in 0\.\.1; got 1\.5"),
    (patch(global_mix=0.5), "global_features must be given where global_mix is not 0"),
    (patch(global_features=torch.ones(3, 6)), r"global_features must have shape \(2, 6\)"),
    (lambda: ops.maxsim_score(QUERIES, IMAGES), "queries must be a Ragged"),
    (lambda: ops.maxsim_score(TEXTS, OTHER_DIM), "queries and documents must have rows of one length"),
    (lambda: ops.fold_patches(QUERIES, IMAGES), r"global_features must have shape \(2, 6\)"),
    (lambda: ops.fold_patches(QUERIES[:2], IMAGES, temperature=-1.0), "temperature must be finite and greater than 0"),
    (lambda: ops.triangular_factor(QUERIES), "ragged must be a Ragged"),
    (lambda: ops.quantise(ops.quantise(IMAGES)), "ragged is int8 already"),
    (lambda: ops.quantise(NAN), "ragged.values must be finite"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_float64_is_scored_by_the_reference() -> None:
    wide = ops.Ragged(IMAGES.values.double(), IMAGES.offsets)
    scores = ops.focal_attention_score(wide, WIDE)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, ops.focal_attention_score(wide, WIDE, backend="reference"))

"""The oracle against numbers worked out by hand and by others."""

import math

import pytest
import torch

from heritage_align import ops
from heritage_align.ops import reference

V = torch.tensor([[1, 0, 0.2], [0.6, 0.8, 0], [0, 1, 0.1], [-0.3, 0.2, 1]], dtype=torch.float64)
S = torch.tensor([[1, 0.1, 0], [0.2, 1, 0.3], [0.5, 0.4, -0.6]], dtype=torch.float64)


def unit(rows: torch.Tensor) -> ops.Ragged:
    return ops.Ragged(torch.nn.functional.normalize(rows, dim=1), torch.tensor([0, len(rows)]))


IMAGE, TEXT = unit(V), unit(S)
WITHOUT_SECOND = torch.tensor([True, False, True, True])
BFAN = {"temperature": 20.0, "aggregate": "mean"}
SHENG = {"rectifier": "relu", "focal": "sheng"}

# Worked out in float64 from the published code (SCAN, BFAN) and equations (Sheng et al. 2021).
CASES = [
    ({"aggregate": "lse"}, 1.040237),
    ({"aggregate": "mean"}, 0.807913),
    ({"aggregate": "max"}, 0.978770),
    ({"aggregate": "sum"}, 2.423739),
    ({"direction": "i2t", "aggregate": "lse"}, 1.121733),
    ({"direction": "i2t", "aggregate": "mean"}, 0.780585),
    ({"focal": "equal", **BFAN}, 0.690550),
    ({"focal": "prob", **BFAN}, 0.690550),
    ({"focal": "equal", "direction": "i2t", **BFAN}, 0.758946),
    ({"focal": "prob", "direction": "both", **BFAN}, 1.449496),
    (SHENG, 1.010021),
    ({"keep": WITHOUT_SECOND, **SHENG}, 0.986414),
    ({"direction": "i2t", **SHENG}, 1.104176),
    ({"keep": WITHOUT_SECOND, "rectifier": "relu"}, 1.016490),
]


@pytest.mark.parametrize(("settings", "expected"), CASES)
def test_published_scores(settings: dict[str, object], expected: float) -> None:
    score = reference.focal_attention_score(IMAGE, TEXT, **settings)
    assert score.shape == (1, 1)
    assert score.item() == pytest.approx(expected, abs=6e-7)
    narrow = ops.focal_attention_score(IMAGE.to(dtype=torch.float32), TEXT.to(dtype=torch.float32), **settings)
    assert narrow.item() == pytest.approx(expected, abs=2e-6)


def test_attention_by_hand() -> None:
    """One word, two regions: over one word the L2 norm leaves only signs, so the word attends by e^+-temperature."""
    regions = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    word = torch.tensor([[math.cos(0.3), math.sin(0.3)]], dtype=torch.float64)
    cosines = reference.attend_one_way(
        word, regions, rectifier="leaky_relu", normalise="l2", temperature=9.0, focal=None, keep=None
    )
    # Both cosines are positive, so both regions weigh 1/2 and the attended vector is the diagonal.
    assert cosines.item() == pytest.approx(math.cos(math.pi / 4 - 0.3), abs=1e-7)


def test_focal_thresholds_by_hand() -> None:
    """p = (.38, .30, .26, .06): thresholds .25, .2844, .3056 keep 3, 2 and 1 regions."""
    p = torch.tensor([[0.38, 0.30, 0.26, 0.06]], dtype=torch.float64)
    kept = [reference.focal_filter(p, focal, 9.0).sum().item() for focal in ("equal", "prob", "sheng")]
    assert kept == [3, 2, 1]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 7, 10, 36, 196])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_attention_is_not_left_to_rounding(n: int, dtype: torch.dtype) -> None:
    p = torch.full((1, n), 1.0 / n, dtype=dtype)
    assert not reference.focal_filter(p, "equal", 0.0).any()
    assert not reference.focal_filter(p, "prob", 0.0).any()
    assert reference.focal_filter(p, "sheng", 0.0).all()


def test_what_would_keep_nothing_keeps_everything() -> None:
    keep = torch.zeros(4, dtype=torch.bool)
    torch.testing.assert_close(
        reference.focal_attention_score(IMAGE, TEXT, keep=keep), reference.focal_attention_score(IMAGE, TEXT)
    )
    # One region cannot exceed its own mean: the focal step is skipped for all three words.
    one_region = ops.Ragged(IMAGE.values[:1], torch.tensor([0, 1]))
    torch.testing.assert_close(
        reference.focal_attention_score(one_region, TEXT, focal="equal"),
        reference.focal_attention_score(one_region, TEXT),
    )


def test_patch_weighting_by_hand() -> None:
    patches = ops.Ragged(torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64), torch.tensor([0, 2]))
    query = torch.tensor([[0.8, 0.6]], dtype=torch.float64)
    weight = 1 / (1 + math.exp(-(0.8 - 0.6) / 0.5))
    expected = {
        "softmax": weight * 0.8 + (1 - weight) * 0.6,
        "max": 0.8,
        "mean": 0.7,
    }
    for pooling, value in expected.items():
        score = reference.patch_weighted_score(query, patches, pooling=pooling, temperature=0.5)
        assert score.item() == pytest.approx(value, abs=1e-12)
    weights = torch.tensor([2.0, -1.0])
    score = reference.patch_weighted_score(query, patches, pooling="weights", weights=weights)
    assert score.item() == pytest.approx(2 * 0.8 - 0.6, abs=1e-12)
    whole = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    score = reference.patch_weighted_score(query, patches, pooling="max", global_features=whole, global_mix=0.25)
    assert score.item() == pytest.approx(0.25 * 0.96 + 0.75 * 0.8, abs=1e-12)


def test_maxsim_by_hand() -> None:
    queries = ops.Ragged(torch.tensor([[1.0, 0.0], [0.0, -1.0], [1.0, 1.0]]).double(), torch.tensor([0, 2, 3]))
    documents = ops.Ragged(torch.tensor([[0.5, 0.5], [2.0, 3.0], [-1.0, 0.0]]).double(), torch.tensor([0, 2, 3]))
    expected = torch.tensor([[2.0 - 0.5, 5.0], [-1.0 + 0.0, -1.0]]).double()
    torch.testing.assert_close(reference.maxsim_score(queries, documents), expected)


def test_folding_by_hand_and_against_the_score() -> None:
    whole = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    patches = ops.Ragged(torch.tensor([[0.6, 0.8], [0.8, -0.6]], dtype=torch.float64), torch.tensor([0, 2]))
    folded = reference.fold_patches(whole, patches)
    torch.testing.assert_close(folded, torch.tensor([[0.36 + 0.64, 0.48 - 0.48]]).double())
    # LACLIP's score is the dot product with the folded vector: the same as fixed weights w_j = <u_I, u_j>.
    query = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    direct = reference.patch_weighted_score(query, patches, pooling="weights", weights=patches.values @ whole[0])
    torch.testing.assert_close(folded @ query.T, direct)


def test_factor_gives_lengths_of_attended_vectors() -> None:
    packed = reference.triangular_factor(IMAGE)
    m = len(V)
    r = torch.zeros(m, m, dtype=torch.float64)
    r[tuple(torch.triu_indices(m, m))] = packed
    torch.testing.assert_close(r.T @ r, IMAGE.values @ IMAGE.values.T)


def test_reference_is_differentiable() -> None:
    words, regions = TEXT.values.clone().requires_grad_(), IMAGE.values.clone().requires_grad_()

    def score(v: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return reference.focal_attention_score(
            ops.Ragged(v, IMAGE.offsets), ops.Ragged(s, TEXT.offsets), direction="both", focal="prob"
        )

    assert torch.autograd.gradcheck(score, (regions, words))

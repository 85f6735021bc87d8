"""A text of one fragment under the focal filters: regions that weigh the same, between which rounding must not choose.

Over one query the L2 norm leaves only the cosines' signs, so all positive regions tie in exact arithmetic.
"""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heritage_align import ops
from heritage_align.ops import reference
from heritage_align.ops.backend import MISSING

FORMS: dict[str, dict[str, Any]] = {
    "equal": {"focal": "equal", "temperature": 20.0, "aggregate": "mean"},
    "prob": {"focal": "prob", "temperature": 20.0, "aggregate": "mean"},
    "sheng": {"focal": "sheng", "temperature": 9.0, "rectifier": "relu", "aggregate": "lse"},
}
BACKENDS = [
    "reference",
    pytest.param(
        "cpu", marks=pytest.mark.skipif(MISSING["cpu"] is not None, reason=f"no CPU kernels: {MISSING['cpu']}")
    ),
]


def random_pair(dim: int, n_regions: int, shared: float, seed: int) -> tuple[ops.Ragged, torch.Tensor]:
    """Unit regions of one image and one unit fragment; with ``shared`` most cosines are positive."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n_regions + 1, dim, generator=generator) + shared * torch.randn(dim, generator=generator)
    rows = torch.nn.functional.normalize(rows, dim=1)
    return ops.Ragged(rows[1:], torch.tensor([0, n_regions])), rows[:1]


def one_text(fragments: torch.Tensor) -> ops.Ragged:
    return ops.Ragged(fragments, torch.tensor([0, len(fragments)]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
def test_regions_on_the_side_of_the_fragment_share_its_attention(form: str, backend: str) -> None:
    """Cosines .8, .6, .28, -.6: the first three weigh 1/3 each, so the attended vector is along their sum.

    (.8, .6) + (.6, -.8) + (.28, .96) = (1.68, .76), whose cosine with (1, 0) is 1.68 / sqrt(1.68^2 + .76^2) = .911115.
    """
    images = ops.Ragged(torch.tensor([[0.8, 0.6], [0.6, -0.8], [0.28, 0.96], [-0.6, 0.8]]), torch.tensor([0, 4]))
    score = ops.focal_attention_score(images, one_text(torch.tensor([[1.0, 0.0]])), backend=backend, **FORMS[form])
    assert score.item() == pytest.approx(1.68 / math.hypot(1.68, 0.76), abs=1e-6)


@pytest.mark.parametrize("focal", ["equal", "prob", "sheng"])
@pytest.mark.parametrize("temperature", [0.0, 9.0, 20.0])
def test_weights_tie_within_the_rounding_of_their_logits(focal: str, temperature: float) -> None:
    """Two weights 1 and 1 - x: the larger leads the threshold by x / 2, to first order, under all three rules."""
    tolerance = 1e-6 * (1 + temperature)
    for x, tied in ((1.9 * tolerance, True), (2.1 * tolerance, False)):
        kept = reference.focal_filter(torch.tensor([[1.0, 1.0 - x]], dtype=torch.float64), focal, temperature)
        together = [[True, True]] if focal == "sheng" else [[False, False]]
        assert kept.tolist() == (together if tied else [[True, False]])


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None)
@given(
    dim=st.sampled_from([64, 256, 1024]),
    n_regions=st.integers(1, 40),
    copies=st.integers(1, 3),
    shared=st.sampled_from([0.0, 0.6, 1.5]),
    seed=st.integers(0, 10_000),
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_keeps_what_float64_keeps(
    backend: str, form: str, dim: int, n_regions: int, copies: int, shared: float, seed: int
) -> None:
    """Also for a fragment said two or three times. A tolerance of 1e-6 is off by up to .4, a third of prob's pairs."""
    images, fragment = random_pair(dim, n_regions, shared, seed)
    texts = one_text(fragment.repeat(copies, 1))
    config = {"direction": "both", **FORMS[form]}
    exact = reference.focal_attention_score(
        ops.Ragged(images.values.double(), images.offsets), ops.Ragged(texts.values.double(), texts.offsets), **config
    )
    scores = ops.focal_attention_score(images, texts, backend=backend, **config)
    torch.testing.assert_close(scores.double(), exact, atol=5e-6, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_go_to_what_the_forward_kept(form: str) -> None:
    """The backward pass filters again, in the reference: on a tie it must come to the kernel's decision."""
    config = {"direction": "both", **FORMS[form]}
    for seed in range(20):
        images, fragment = random_pair(64, 12, 0.6, seed)
        narrow = images.values.clone().requires_grad_()
        wide = images.values.double().requires_grad_()
        ops.focal_attention_score(ops.Ragged(narrow, images.offsets), one_text(fragment), **config).sum().backward()
        reference.focal_attention_score(
            ops.Ragged(wide, images.offsets), one_text(fragment.double()), **config
        ).sum().backward()
        assert narrow.grad is not None
        assert wide.grad is not None
        torch.testing.assert_close(narrow.grad.double(), wide.grad, atol=1e-5, rtol=0)

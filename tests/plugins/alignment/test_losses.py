"""What is minimised: eqs 5 to 7 by hand, the softmax by hand, and the gradients of a step through every pair."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from heritage_align_plugins.alignment.losses import score_info_nce
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.ops import reference


def identity(task: Any, words: dict[str, list[float]]) -> None:
    """Let features pass as they are, and give words (a bag of one word) their vectors."""
    with torch.no_grad():
        task.model.image.projection.weight.copy_(torch.eye(2))
        task.model.image.projection.bias.zero_()
        for word, vector in words.items():
            task.model.text["bag"].embedding.weight[task.model.vocabulary.tokens[word]] = torch.tensor(vector)
        task.model.text["bag"].bias.zero_()


LEVELS = {
    "name": "weighted_sum",
    "terms": [
        {"weight": 1.0, "similarity": {"name": "scan", "rectifier": "relu"}},
        {"weight": 1.0, "similarity": {"name": "global"}},
    ],
}


def test_the_two_level_hinge_by_hand(small: Any) -> None:
    """Two pictures, two captions of one word: red (1, 0), blue (0.6, 0.8)."""
    regions = [torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1], [0.8, 0.6]])]
    data = small.collected(regions, torch.eye(2), [["red"], ["blue"]])
    task = small.task(data, small.similarity(LEVELS), {"dim": 2, "text": ["bag"]}, margin=0.5)
    identity(task, {"red": [1, 0], "blue": [0.6, 0.8]})
    losses = task.step(torch.tensor([0, 1]), lambda loss: loss)
    # Global level, S = (1, .6; 0, .8): hinges .5 + .6 - 1, .5 + 0 - .8 < 0; .5 + 0 - 1 < 0, .5 + .6 - .8.
    assert losses["loss global"] == pytest.approx(0.1 + 0.3)
    # Fragment level. A caption of one fragment: g is 1 for a positive cosine and 0 else, the LSE is the cosine.
    # Picture 1 has one region: S_11 = 1, S_12 = .6. Picture 2, red: cosines (0, .8), attention (1, e^9) / (1 + e^9);
    # blue: cosines (.8, .96), attention (1/2, 1/2).
    alpha = math.exp(9) / (1 + math.exp(9))
    mixed = (0.8 * alpha, (1 - alpha) + 0.6 * alpha)
    s21 = mixed[0] / math.hypot(*mixed)
    half = (0.4, 0.8)
    s22 = (0.6 * half[0] + 0.8 * half[1]) / math.hypot(*half)
    s11, s12 = 1.0, 0.6
    hinges = [0.5 + s12 - s11, 0.5 + s21 - s22, 0.5 + s21 - s11, 0.5 + s12 - s22]
    assert losses["loss scan"] == pytest.approx(sum(max(0.0, hinge) for hinge in hinges), rel=1e-5)


def test_weights_of_terms_weigh_their_losses(small: Any) -> None:
    terms = [{**LEVELS["terms"][0], "weight": 3.0}, LEVELS["terms"][1]]  # type: ignore[dict-item]
    data = small.collected(list(torch.randn(4, 2, 3)), torch.randn(4, 3), [["red"], ["blue"], ["lotus"], ["crane"]])
    batch = torch.arange(4)
    plain = small.task(data, small.similarity(LEVELS)).step(batch, lambda loss: loss)
    weighted = small.task(data, small.similarity({**LEVELS, "terms": terms})).step(batch, lambda loss: loss)
    assert weighted["loss scan"] == pytest.approx(3 * plain["loss scan"])
    assert weighted["loss global"] == pytest.approx(plain["loss global"])


def test_infonce_by_hand() -> None:
    scores = torch.tensor([[0.3, 0.1], [0.2, 0.4]])
    rows = math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-2))  # (.3 - .1) / .1 and (.4 - .2) / .1
    columns = math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-3))
    assert score_info_nce(scores, 0.1).item() == pytest.approx((rows / 2 + columns / 2) / 2)
    assert score_info_nce(torch.zeros(8, 8), 0.07).item() == pytest.approx(math.log(8))


SYSTEMS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "scan": ({"name": "scan"}, {}),
    "scan i2t": ({"name": "scan", "direction": "i2t"}, {}),
    "scan ens": ({"name": "scan", "direction": "ens", "aggregate": "mean"}, {}),
    "scan softmax": ({"name": "scan", "normalise": "softmax", "rectifier": "none"}, {}),
    "bfan": ({"name": "scan", "temperature": 20, "aggregate": "mean", "direction": "ens"}, {"focal": "prob"}),
    "bfan-sf": ({"name": "scan", "rectifier": "relu"}, {"focal": "sheng"}),
}


@pytest.mark.parametrize("masked", [False, True], ids=["all regions", "masked"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_step_has_the_gradients_of_every_pair(small: Any, system: str, masked: bool) -> None:
    """The ops' backward visits the mined pairs alone; autograd through all pairs of the reference must agree."""
    settings, attention = SYSTEMS[system]
    generator = torch.Generator().manual_seed(3)
    # One word alone attends to all that point its way alike, and rounding decides which of them a focal step drops.
    least = 2 if attention else 1
    regions = [torch.randn(max(count, least), 7, generator=generator) for count in (3, 1, 4, 2, 5, 3)]
    words = [["red lotus", "crane"], ["blue"], ["red", "a vase", "moon"], ["莲纹"], ["crane", "wave"], ["moon"]]
    words = [split if len(split) >= least else [*split, "cloud"] for split in words]
    keep = torch.rand(sum(map(len, regions)), generator=generator) > 0.4 if masked else None
    data = small.collected(regions, torch.randn(6, 7, generator=generator), words, keep=keep)
    task = small.task(data, small.similarity(settings, **attention))
    with torch.no_grad():
        task.model.text["bigru"].embedding.weight.mul_(20)  # an untaught GRU's words are near each other
    losses = task.step(torch.arange(6), lambda loss: loss)
    found = {name: p.grad.clone() for name, p in task.model.named_parameters() if p.grad is not None}

    task.model.zero_grad()
    loss = slow_loss(task, settings, attention, keep)
    loss.backward()
    assert losses["loss scan"] == pytest.approx(loss.item(), rel=1e-5)
    assert loss.item() > 0.5
    for name, parameter in task.model.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found[name], expected, atol=2e-5, rtol=1e-3, msg=name)


def slow_loss(task: Any, settings: dict[str, Any], attention: dict[str, str], keep: Tensor | None) -> Tensor:
    """Return the sum of both hinges over their hardest negatives, every pair's score kept in the graph."""
    data = task._train
    regions = type(data.images.regions)(
        normalize(task.model.encode_images(data.images.regions.values), dim=-1), data.images.regions.offsets
    )
    _, parts = task.model.encode_fragmented([item.text for item in data.items], data.fragments)
    lengths = torch.tensor([0, *(len(split) for split in data.fragments)])
    fragments = type(regions)(normalize(parts, dim=-1), lengths.cumsum(0))
    options = {key: value for key, value in settings.items() if key != "name"} | attention
    options["direction"] = {"ens": "both"}.get(options.get("direction", "t2i"), options.get("direction", "t2i"))
    scores = reference.focal_attention_score(regions, fragments, keep=keep, **options)
    total = torch.zeros(())
    for k in range(len(scores)):
        others = [j for j in range(len(scores)) if j != k]
        total = total + (0.2 + scores[k, others].max() - scores[k, k]).clamp_min(0)
        total = total + (0.2 + scores[others, k].max() - scores[k, k]).clamp_min(0)
    return total

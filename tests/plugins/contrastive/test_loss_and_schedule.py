"""Loss, learning rate, optimiser and stages against values worked out by hand and cn_clip's own functions."""

from __future__ import annotations

import math

import pytest
import torch
from cn_clip.training.scheduler import cosine_lr
from cn_clip.training.train import cosineSimilarityLoss
from heritage_align_plugins.cn_clip.architecture import build_model
from heritage_align_plugins.contrastive.config import ContrastiveConfig
from heritage_align_plugins.contrastive.loss import distillation, info_nce
from heritage_align_plugins.contrastive.optimizer import MAX_LOGIT_SCALE, build_optimizer
from heritage_align_plugins.contrastive.stages import Schedule, check_parts, freeze, stages_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heritage_align.errors import ConfigError


def test_info_nce_by_hand():
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # S = 2 * [[1, .6], [0, .8]]: rows log(1 + e^-.8), log(1 + e^-1.6); columns log(1 + e^-2), log(1 + e^-.4)
    expected = sum(math.log1p(math.exp(x)) for x in (-0.8, -1.6, -2.0, -0.4)) / 4
    assert info_nce(images, texts, torch.tensor(2.0)).item() == pytest.approx(expected, abs=1e-6)


def test_info_nce_of_features_that_are_all_alike_is_the_logarithm_of_their_number():
    rows = torch.ones(5, 3) / 3**0.5
    assert info_nce(rows, rows, torch.tensor(7.0)).item() == pytest.approx(math.log(5), abs=1e-6)


def slow_info_nce(images, texts, scale, positive, compared):
    """Return UniCL's loss in plain loops."""
    total, n = 0.0, len(images)
    for by_text in (False, True):
        for i in range(n):
            pairs = [(j, i) if by_text else (i, j) for j in range(n)]
            logits = {(a, b): scale * float(images[a] @ texts[b]) for a, b in pairs if compared[a][b]}
            normaliser = math.log(sum(math.exp(value) for value in logits.values()))
            right = [pair for pair in pairs if positive[pair[0]][pair[1]]]
            total += sum(normaliser - logits[pair] for pair in right) / len(right)
    return total / (2 * n)


def test_shared_targets_by_hand():
    # S = [[1, 1, 0], [1, 1, 0], [0, 0, 1]]; pictures 0 and 1 are right for texts 0 and 1, and the third is of another
    # source: each of the first four rows costs log(2e) - 1 = log 2, the others nothing.
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    assert info_nce(rows, rows, torch.tensor(1.0), same, same).item() == pytest.approx(math.log(2) * 2 / 3, abs=1e-6)
    # Held against all: log(2e + 1) - 1 four times, log(e + 2) - 1 twice.
    all_held = (4 * (math.log(2 * math.e + 1) - 1) + 2 * (math.log(math.e + 2) - 1)) / 6
    assert info_nce(rows, rows, torch.tensor(1.0), same).item() == pytest.approx(all_held, abs=1e-6)


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(0, 10**6))
def test_shared_targets_and_sources_are_those_of_plain_loops(n, seed):
    generator = torch.Generator().manual_seed(seed)
    images, texts = (torch.nn.functional.normalize(torch.randn(n, 4, generator=generator)) for _ in range(2))
    positive = (torch.rand(n, n, generator=generator) < 0.3) | torch.eye(n, dtype=torch.bool)
    compared = (torch.rand(n, n, generator=generator) < 0.5) | positive
    found = info_nce(images, texts, torch.tensor(5.0), positive, compared)
    assert found.item() == pytest.approx(slow_info_nce(images, texts, 5.0, positive, compared), abs=1e-5)


def test_own_pairs_held_against_all_are_clip_s_loss_and_gradient():
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(2, 6, 4, generator=generator), dim=-1).requires_grad_()
    every = torch.ones(6, 6, dtype=torch.bool)
    losses = [info_nce(*rows, torch.tensor(9.0)), info_nce(*rows, torch.tensor(9.0), torch.eye(6).bool(), every)]
    plain, shared = (torch.autograd.grad(loss, rows)[0] for loss in losses)
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(plain, shared)


def test_what_is_not_compared_has_no_gradient():
    rows = torch.eye(4).reshape(2, 2, 4).requires_grad_()
    own = torch.eye(2, dtype=torch.bool)
    (gradient,) = torch.autograd.grad(info_nce(*rows, torch.tensor(3.0), own, own), rows)
    assert not gradient.any()
    assert gradient.isfinite().all()


def test_distillation_by_hand():
    students, teachers = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 2.0], [4.0, 3.0]])
    assert distillation(students, teachers).item() == pytest.approx(1 - (0 + 24 / 25) / 2, abs=1e-6)


def test_a_narrow_student_is_stretched_between_half_pixels():
    # From 2 to 4 numbers the places are -.25 (so 0), .25, .75, 1.25 (so 1): a, .75 a + .25 b, .25 a + .75 b, b.
    stretched = torch.tensor([[4.0, 5.0, 7.0, 8.0]])
    assert distillation(torch.tensor([[4.0, 8.0]]), stretched).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("widths", [(6, 6), (6, 9), (9, 6)])
def test_distillation_is_that_of_cn_clip(widths):
    generator = torch.Generator().manual_seed(0)
    students, teachers = (torch.randn(5, width, generator=generator) for width in widths)
    torch.testing.assert_close(distillation(students, teachers), cosineSimilarityLoss(teachers, students))


def config(**settings: object) -> ContrastiveConfig:
    return ContrastiveConfig.model_validate(settings)


def test_the_rate_is_that_of_cn_clip_in_every_stage():
    stages = [{"epochs": 2, "learning_rate": 1e-3, "warmup": 3}, {"epochs": 3}]
    chosen = config(stages=stages, learning_rate=1e-4, warmup=5)
    schedule = Schedule(stages_of(chosen), chosen.learning_rate)
    group = {"lr": 0.0}
    optimizer = type("Optimizer", (), {"param_groups": [group]})()
    steps = 4  # an epoch
    for first, peak, warmup, epochs in ((0, 1e-3, 3, 2), (8, 1e-4, 5, 3)):
        adjust = cosine_lr(optimizer, peak, warmup, epochs * steps)
        for step in range(epochs * steps):
            assert 1e-4 * schedule.rate(first + step, 5 * steps) == pytest.approx(adjust(step), rel=1e-9)


def test_the_warm_up_may_be_longer_than_the_stage():
    schedule = Schedule(stages_of(config(epochs=1, warmup=10)), 5e-5)
    assert [schedule.rate(step, 4) for step in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_epochs_are_the_sum_of_the_stages():
    assert config(stages=[{"epochs": 2}, {"epochs": 5}]).epochs == 7
    with pytest.raises(ValidationError, match="the stages have 7 together"):
        config(epochs=3, stages=[{"epochs": 2}, {"epochs": 5}])


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"batch_size": 10, "accumulate": 3}, "3 parts do not divide a batch of 10"),
        ({"patience": 2, "stages": [{"epochs": 1}, {"epochs": 1}]}, "patience: could end the run before"),
        ({"recall_at": [5, 1]}, "ascending cut-offs from 1"),
        ({"augmentation": {"scale": [0.9, 1.2]}}, "cannot keep more than the picture"),
        ({"augmentation": {"aspect": [2.0, 0.5]}}, "ascending numbers above 0"),
        ({"stages": [{"epochs": 1, "freeze": "images"}]}, "'none', 'vision' or 'text'"),
        ({"mask_ratio": 1.0}, "less than 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, fault):
    with pytest.raises(ValidationError, match=fault):
        config(**settings)


@pytest.fixture(scope="module")
def clip(tiny):
    return build_model(tiny.VIT)


def trained(clip: torch.nn.Module) -> set[str]:
    return {name for name, parameter in clip.named_parameters() if parameter.requires_grad}


def test_freezing_vision_leaves_bert_its_projection_and_the_temperature(clip):
    freeze(clip, stages_of(config(stages=[{"epochs": 1, "freeze": "vision"}]))[0])
    assert {name.split(".")[0] for name in trained(clip)} == {"bert", "text_projection", "logit_scale"}
    assert not clip.visual.training
    assert clip.bert.encoder.layer[0].output.dropout.training


def test_freezing_text_and_further_parts(clip):
    stage = {"epochs": 1, "freeze": "text", "freeze_parts": ["visual.transformer.resblocks.0.", "logit_scale"]}
    freeze(clip, stages_of(config(stages=[stage]))[0])
    assert {name.split(".")[0] for name in trained(clip)} == {"visual"}
    assert not any("resblocks.0." in name for name in trained(clip))
    assert not clip.bert.encoder.layer[0].output.dropout.training
    freeze(clip, stages_of(config())[0])
    assert trained(clip) == {name for name, _ in clip.named_parameters()}
    assert all(module.training for module in clip.modules())


def test_parts_that_are_none_and_stages_that_train_nothing_are_refused(clip):
    both = {"epochs": 1, "freeze": "vision", "freeze_parts": ["bert.", "text_projection"]}
    chosen = config(stages=[{"epochs": 1, "freeze_parts": ["visual.layer9"]}, both])
    with pytest.raises(ConfigError) as caught:
        check_parts(clip, chosen)
    assert len(caught.value.problems) == 2
    assert "stages.0.freeze_parts: no parameter's name begins with 'visual.layer9'" in str(caught.value)
    assert "stages.1: freezes both towers" in str(caught.value)


def test_weight_decay_is_on_what_cn_clip_puts_it(clip):
    optimizer = build_optimizer(clip, config(weight_decay=0.2))

    def spared(name: str) -> bool:  # the expression of cn_clip's main.py
        return "bn" in name or "ln" in name or "bias" in name or "logit_scale" in name

    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in clip.named_parameters():
        assert decay[id(parameter)] == (0.0 if spared(name) else 0.2), name
    assert optimizer.defaults["betas"] == (0.9, 0.98)
    assert optimizer.defaults["eps"] == 1e-6


def test_a_resnet_has_adam_s_own_constants(tiny):
    optimizer = build_optimizer(build_model(tiny.RESNET), config())
    assert (optimizer.defaults["betas"], optimizer.defaults["eps"]) == ((0.9, 0.999), 1e-8)


@pytest.mark.parametrize(("start", "end"), [(4.6, MAX_LOGIT_SCALE), (0.01, 0.0)])
def test_the_temperature_is_clamped_after_every_step(tiny, start, end):
    clip = build_model(tiny.VIT)
    optimizer = build_optimizer(clip, config(learning_rate=0.5))
    with torch.no_grad():
        clip.logit_scale.fill_(start)
    clip.logit_scale.grad = torch.tensor(-1.0 if start > 1 else 1.0)
    optimizer.step()
    assert clip.logit_scale.item() == pytest.approx(end)


def test_the_temperature_may_move_faster(tiny):
    model = build_model(tiny.VIT)
    groups = build_optimizer(model, config(learning_rate=1e-3, scale_rate=10)).param_groups
    (faster,) = (group for group in groups if group["lr"] != 1e-3)
    assert faster["lr"] == pytest.approx(1e-2)
    assert [parameter is model.logit_scale for parameter in faster["params"]] == [True]
    assert {group["lr"] for group in build_optimizer(model, config(learning_rate=1e-3)).param_groups} == {1e-3}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"mask_ratio": 0.5}, "mask_ratio"),
        ({"augmentation": {}, "accumulate": 2}, "augmentation, accumulate"),
        ({"stages": [{"epochs": 1, "freeze": "vision"}]}, "stages"),
    ],
)
@pytest.mark.parametrize("weight", ["patch_weight", "region_weight"])
def test_a_contrast_of_patches_needs_all_of_them(settings, named, weight):
    with pytest.raises(ValidationError, match=f"{weight}: .* unset {named}"):
        config(**{weight: 1.0}, **settings)

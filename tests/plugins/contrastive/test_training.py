"""Whole runs of tiny models, one of them against a loop written with cn_clip's own model and functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cn_clip.clip.model import CLIP
from cn_clip.training.scheduler import cosine_lr
from heritage_align_plugins.cn_clip.checkpoint import load_checkpoint
from heritage_align_plugins.cn_clip.preprocess import prepare_image, prepare_texts
from heritage_align_plugins.contrastive.pairs import draw_batches, pairs_of
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

from heritage_align.config import load_config
from heritage_align.errors import CheckpointError, ConfigError, DataError, ImageError
from heritage_align.pipeline import Pipeline
from heritage_align.testing import Case, check_component
from heritage_align.types import GoldenPair, TextItem

UNCHANGED = {"scale": [1.0, 1.0], "aspect": [1.0, 1.0], "flip": 0.0, "auto_augment": False}
"""An augmentation that shows every picture as it is, so that nothing can be encoded once for all epochs."""


def trained(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(folder / "last.pt", weights_only=True)["model"]
    return state


def history(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=tolerance, rtol=0, msg=name)


# Adam divides by the size of a gradient: with an epsilon above that of rounding errors these stay as small as they are.
CALM = {"epsilon": 1e-3}


def test_it_learns(tiny, exact_model, tmp_path):
    data, validation = tiny.Squares(copies=1, captions=6), tiny.Squares(copies=1)
    settings = {"batch_size": 15, "epochs": 10, "learning_rate": 1e-3, "warmup": 4, "validate_every": 10}
    outcome = tiny.train(tmp_path, exact_model, settings, data=data, validation=validation)
    assert outcome.metrics["recall"] > 75  # chance is 35.6
    assert outcome.metrics["epoch"] == 10
    losses = [record["loss"] for record in history(tmp_path)]
    assert losses[-1] < 1.3 < 2.6 < losses[0]
    recalls = [value for key, value in outcome.metrics.items() if key[:3] in ("t2i", "i2t")]
    assert len(recalls) == 6
    assert outcome.metrics["recall"] == pytest.approx(np.mean(recalls))


def test_the_outcome_is_a_configuration_that_reaches_the_same_recall(tiny, model, tmp_path):
    validation = tiny.Squares(copies=1)
    settings = {"epochs": 2, "export_dtype": "fp32", "learning_rate": 3e-3}
    outcome = tiny.train(tmp_path, model, settings, validation=validation)
    pipeline = Pipeline(load_config(outcome.document))
    assert pipeline.config.train is None
    images = pipeline.encode_images([validation.load_image(i) for i in validation.image_ids], validation.image_ids)
    scores = pipeline.score(images, pipeline.encode_texts(validation.texts))
    first = (scores.argmax(0) == torch.arange(15)).float().mean().item()
    assert 100 * first == pytest.approx(outcome.metrics["t2i_r1"])


def by_cn_clip(clip: CLIP, data: Any, epochs: int, batch_size: int, rate: float) -> dict[str, Tensor]:
    """Train as cn_clip's main.py and train.py do, on the batches that ours draws."""
    clip.train()
    pairs = pairs_of(data)
    plain = [p for n, p in clip.named_parameters() if "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n]
    known = {id(p) for p in plain}
    rest = [p for p in clip.parameters() if id(p) not in known]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": rest, "weight_decay": 0.1}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=CALM["epsilon"])
    drawn = [draw_batches(pairs, batch_size, "all", np.random.default_rng((0, epoch))) for epoch in range(epochs)]
    batches = [batch for epoch in drawn for batch in epoch]
    adjust = cosine_lr(optimizer, rate, 2, len(batches))
    for step, batch in enumerate(batches):
        adjust(step)
        optimizer.zero_grad()
        pixels = torch.stack([prepare_image(data.load_image(pairs.image_ids[row]), 32) for row in batch[:, 0]])
        images, texts, scale = clip(pixels, prepare_texts([pairs.texts[row].text for row in batch[:, 1]], 12))
        logits, target = scale * images @ texts.t(), torch.arange(batch_size)
        ((cross_entropy(logits, target) + cross_entropy(logits.t(), target)) / 2).backward()
        optimizer.step()
        clip.logit_scale.data = torch.clamp(clip.logit_scale.data, 0, 4.6052)
    return dict(clip.state_dict())


def test_a_run_ends_at_the_weights_of_cn_clip_s_own_loop(tiny, exact_model, tmp_path):
    settings = {"epochs": 3, "learning_rate": 2e-3, "weight_decay": 0.1, **CALM}
    tiny.train(tmp_path, exact_model, settings, data=tiny.Squares(captions=2))
    expected = by_cn_clip(load_checkpoint(exact_model)[0], tiny.Squares(captions=2), 3, 8, 2e-3)
    begun = load_checkpoint(exact_model)[0].state_dict()
    assert max((expected[name] - begun[name]).abs().max().item() for name in begun) > 1e-3
    assert_close(trained(tmp_path), expected, 2e-6)


def test_parts_of_a_batch_end_at_the_weights_of_whole_batches(tiny, exact_model, tmp_path):
    for name, parts in (("whole", 1), ("parts", 4)):
        tiny.train(tmp_path / name, exact_model, {"epochs": 2, "accumulate": parts, **CALM})
    assert_close(trained(tmp_path / "parts"), trained(tmp_path / "whole"), 1e-6)


def test_a_locked_tower_encodes_every_picture_once_and_keeps_its_weights(tiny, exact_model, tmp_path):
    data, validation = tiny.Squares(), tiny.Squares(copies=1)
    locked = {"stages": [{"epochs": 3, "freeze": "vision"}], **CALM}
    tiny.train(tmp_path / "locked", exact_model, locked, data=data, validation=validation)
    assert (data.loads, validation.loads) == (2 * 30, 2 * 15)  # once to see that it can be read
    state, begun = trained(tmp_path / "locked"), load_checkpoint(exact_model)[0].state_dict()
    assert all(torch.equal(state[n], begun[n]) for n in state if n.startswith("visual."))
    for name in ("text_projection", "logit_scale", "bert.embeddings.word_embeddings.weight"):
        assert not torch.equal(state[name], begun[name]), name
    again = tiny.Squares()
    tiny.train(tmp_path / "shown", exact_model, {**locked, "augmentation": UNCHANGED}, data=again)
    assert again.loads >= 30 + 3 * 24  # three batches of eight an epoch
    assert_close(trained(tmp_path / "shown"), state, 1e-6)


def test_pictures_are_decoded_once_where_memory_allows(tiny, exact_model, tmp_path):
    kept, decoded = tiny.Squares(), tiny.Squares()
    tiny.train(tmp_path / "kept", exact_model, {"epochs": 3}, data=kept)
    tiny.train(tmp_path / "decoded", exact_model, {"epochs": 3, "kept_mib": 0}, data=decoded)
    assert 30 < kept.loads <= 2 * 30  # once before, to see that it can be read
    assert decoded.loads == 30 + 3 * 24  # three batches of eight an epoch
    assert_close(trained(tmp_path / "kept"), trained(tmp_path / "decoded"), 0)


def test_two_stages_free_vision_in_the_second(tiny, model, tmp_path):
    stages = [{"epochs": 1, "freeze": "vision", "learning_rate": 1e-3}, {"epochs": 2, "learning_rate": 1e-4}]
    settings = {"stages": stages, "checkpoint_steps": 1, "warmup": 1}
    tiny.train(tmp_path, model, settings)
    state, begun = trained(tmp_path), load_checkpoint(model)[0].state_dict()
    assert not torch.equal(state["visual.proj"], begun["visual.proj"])
    assert [record["learning_rate"] <= 1e-4 for record in history(tmp_path)] == [False, True, True]


def test_a_frozen_text_tower_keeps_its_weights(tiny, model, tmp_path):
    tiny.train(tmp_path, model, {"stages": [{"epochs": 1, "freeze": "text"}]})
    state, begun = trained(tmp_path), load_checkpoint(model)[0].state_dict()
    moved = {name.split(".")[0] for name in state if not torch.equal(state[name], begun[name])}
    assert moved == {"visual", "logit_scale"}


@pytest.mark.parametrize("augmentation", [None, UNCHANGED], ids=["encoded once", "encoded in every step"])
def test_a_teacher_draws_the_picture_features_to_its_own(tiny, model, tmp_path, augmentation):
    teacher = {"name": "cn_clip", "model": str(model)}
    settings = {"epochs": 1, "teacher": teacher, "augmentation": augmentation, "captions": "one", "learning_rate": 1e-9}
    tiny.train(tmp_path, model, settings)
    (record,) = history(tmp_path)
    assert record["loss_distillation"] == pytest.approx(0, abs=1e-5)
    other = tiny.write_model(tmp_path / "other.safetensors", tiny.VIT_OTHER)
    settings["teacher"] = {"name": "cn_clip", "model": str(other)}
    settings |= {"distillation_weight": 2.0}
    tiny.train(tmp_path / "other", model, settings)
    (record,) = history(tmp_path / "other")
    assert record["loss_distillation"] > 0.1
    assert record["loss"] == pytest.approx(record["loss_contrastive"] + 2 * record["loss_distillation"])


@pytest.mark.parametrize(
    "settings",
    [
        {"mask_ratio": 0.5},
        {"precision": "bf16"},
        {"precision": "fp16", "accumulate": 2},
        {"checkpointing": True},
        {"augmentation": {}},
        {"captions": "one"},
        {"captions": "one", "together": 2},
        {"positives": "known", "accumulate": 2},
        {"negatives": "source"},
    ],
    ids=lambda settings: "-".join(map(str, next(iter(settings.items())))),
)
def test_an_epoch_with(tiny, model, tmp_path, settings):
    tiny.train(tmp_path, model, {"epochs": 1, **settings}, data=tiny.Squares(captions=2))
    (record,) = history(tmp_path)
    assert 1 < record["loss"] < 5
    begun = load_checkpoint(model)[0].state_dict()
    assert all(not torch.equal(v, begun[n]) for n, v in trained(tmp_path).items() if n.endswith("proj"))


def test_a_resnet_learns_with_vision_locked_and_free(tiny, resnet, tmp_path):
    stages = [{"epochs": 1, "freeze": "vision"}, {"epochs": 1}]
    tiny.train(tmp_path, resnet, {"stages": stages})
    state, begun = trained(tmp_path), load_checkpoint(resnet)[0].state_dict()
    assert not torch.equal(state["visual.bn1.running_mean"], begun["visual.bn1.running_mean"])
    tiny.train(tmp_path / "locked", resnet, {"stages": stages[:1], "accumulate": 2})
    state = trained(tmp_path / "locked")
    assert torch.equal(state["visual.bn1.running_mean"], begun["visual.bn1.running_mean"])


@pytest.mark.parametrize("settings", [{"mask_ratio": 0.5}, {"accumulate": 2}])
def test_what_a_resnet_cannot_do_is_refused(tiny, resnet, tmp_path, settings):
    with pytest.raises(ConfigError, match=rf"train\.{next(iter(settings))}: .*tiny-resnet"):
        tiny.train(tmp_path, resnet, {"epochs": 1, **settings})


def test_too_few_pictures_are_refused(tiny, model, tmp_path):
    with pytest.raises(DataError, match="squares: 15 pictures with captions do not fill a batch of 16"):
        tiny.train(tmp_path, model, {"batch_size": 16}, data=tiny.Squares(copies=1, captions=5))


def test_pictures_that_cannot_be_read_are_left_out_named_and_counted(tiny, model, tmp_path, capsys):
    torn = {"蓝山1"}

    class Torn(tiny.Squares):
        def load_image(self, image_id: str) -> Image.Image:
            if image_id in torn:
                raise ImageError(f"{image_id}.jpg: is truncated")
            return super().load_image(image_id)

    settings = {"stages": [{"epochs": 1, "freeze": "vision"}]}
    first = tiny.train(tmp_path / "run", model, settings, data=Torn(), validation=Torn())
    said = capsys.readouterr().err.splitlines()
    assert said.count("left out 蓝山1: 蓝山1.jpg: is truncated") == 2  # of the training and of the validation set
    assert said.count("squares: 1 of 30 pictures cannot be read and are left out") == 2
    without = tiny.Squares()
    without.image_ids = tuple(image_id for image_id in without.image_ids if image_id not in torn)
    without.texts = tuple(item for item in without.texts if item.image_ids[0] not in torn)
    second = tiny.train(tmp_path / "without", model, settings, data=without, validation=without)
    assert first.files["model"].read_bytes() == second.files["model"].read_bytes()
    torn.update(tiny.Squares().image_ids)
    with pytest.raises(
        DataError, match=r"squares: not one of its 30 pictures can be read; the first: .*: is truncated"
    ):
        tiny.train(tmp_path / "none", model, settings, data=Torn())


def test_an_encoder_of_another_sort_is_refused(tiny, model, tmp_path):
    with pytest.raises(ConfigError, match="contrastive trains cn_clip models, not bert"):
        tiny.train(tmp_path, model, {"epochs": 1}, encoder={"name": "bert", "model": "bert-base-chinese"})


def test_a_finished_run_is_not_repeated_and_another_is_refused(tiny, model, tmp_path):
    outcome = tiny.train(tmp_path, model, {"epochs": 1}, validation=tiny.Squares(copies=1))
    data = tiny.Squares()
    again = tiny.train(tmp_path, model, {"epochs": 1}, data=data, validation=tiny.Squares(copies=1))
    assert again == outcome
    assert data.loads == 0
    with pytest.raises(CheckpointError, match="another configuration"):
        tiny.train(tmp_path, model, {"epochs": 1, "learning_rate": 2e-3}, validation=tiny.Squares(copies=1))
    with pytest.raises(CheckpointError, match="other data"):
        tiny.train(tmp_path, model, {"epochs": 1}, data=tiny.Squares(captions=2), validation=tiny.Squares(copies=1))


def test_conformance():
    results = check_component(Case("trainer", "contrastive", {"stages": [{"epochs": 2, "freeze": "vision"}]}))
    assert sum(result.state == "passed" for result in results) >= 8


def test_twins_share_their_texts_where_positives_are_known(tiny, exact_model, tmp_path):
    twins = tiny.Squares(copies=2)
    answers: dict[str, list[str]] = {}
    for item in twins.texts:
        answers.setdefault(item.text, []).extend(item.image_ids)
    twins.texts = tuple(TextItem(text, text, tuple(ids)) for text, ids in answers.items())
    assert len(twins.texts) == 15
    settings = {"epochs": 1, "batch_size": 30, "positives": "known", "learning_rate": 1e-12}
    tiny.train(tmp_path, exact_model, settings, data=twins)
    (record,) = history(tmp_path)
    model = load_checkpoint(exact_model)[0].eval()
    with torch.no_grad():
        pixels = torch.stack([prepare_image(twins.load_image(i), 32) for i in twins.image_ids])
        texts = prepare_texts([next(t for t, ids in answers.items() if i in ids) for i in twins.image_ids], 12)
        images, texts, scale = model(pixels, texts)
        logits = (scale * images @ texts.T).double()
    # A batch has both twins and their text twice: two of thirty texts are right for a picture, half each.
    right = torch.tensor([[float(a[:2] == b[:2]) / 2 for b in twins.image_ids] for a in twins.image_ids]).double()
    assert right.sum(1).eq(1).all()
    expected = (cross_entropy(logits, right) + cross_entropy(logits.T, right)) / 2
    assert record["loss"] == pytest.approx(expected.item(), abs=1e-4)


@pytest.fixture
def golden_squares(tiny):
    """Squares whose left half is named by their colour; the right half is no golden region."""
    squares = tiny.Squares()
    left = (0, 0, 16, 32)
    squares.golden = tuple(GoldenPair(i, left, (colour, colour * 2)) for i, (colour, *_) in squares.kinds.items())
    return squares


@pytest.mark.parametrize("part", ["patches", "regions"])
def test_parts_learn_the_phrases_of_their_regions(tiny, model, golden_squares, tmp_path, part):
    weight = {"patches": "patch_weight", "regions": "region_weight"}[part]
    tiny.train(tmp_path, model, {"epochs": 40, weight: 1.0, "learning_rate": 3e-3}, data=golden_squares)
    first, last = history(tmp_path)[0], history(tmp_path)[-1]
    assert first[f"loss_{part}"] > 1.6  # chance among five colours: log 5
    assert last[f"loss_{part}"] < 0.8
    assert last["loss"] == pytest.approx(last["loss_contrastive"] + last[f"loss_{part}"])


def test_patches_and_regions_are_weighed_each(tiny, model, golden_squares, tmp_path):
    weights = {"patch_weight": 0.5, "region_weight": 2.0}
    tiny.train(tmp_path, model, {"epochs": 1, **weights}, data=golden_squares)
    (record,) = history(tmp_path)
    parts = 0.5 * record["loss_patches"] + 2 * record["loss_regions"]
    assert record["loss"] == pytest.approx(record["loss_contrastive"] + parts, abs=1e-5)


def test_the_patches_loss_of_a_step_is_that_of_the_encoder_s_plain_patches(tiny, exact_model, golden_squares, tmp_path):
    settings = {"epochs": 1, "batch_size": 30, "patch_weight": 2.0, "learning_rate": 1e-12}
    tiny.train(tmp_path, exact_model, settings, data=golden_squares)
    (record,) = history(tmp_path)
    encoder = {"name": "cn_clip", "model": str(exact_model), "patch_features": "plain"}
    document = {"version": 1, "name": "plain", "encoder": encoder, "similarity": {"name": "global"}}
    built = Pipeline(load_config(document)).encoder
    pixels = torch.stack([built.prepare(golden_squares.load_image(i)) for i in golden_squares.image_ids])
    patches = built.encode_pixels(pixels, patches=True).patches[:, ::2]  # 2 x 2 patches: the left ones
    colours = list(tiny.COLOURS)
    scale = load_checkpoint(exact_model)[0].logit_scale.exp().item()
    right = torch.tensor([colours.index(golden_squares.kinds[i][0]) for i in golden_squares.image_ids])
    losses = []
    for names in (colours, [colour * 2 for colour in colours]):
        logits = scale * patches @ built.encode_texts(names).float().T
        losses.append(cross_entropy(logits.flatten(0, 1), right.repeat_interleave(2)).item())
    assert min(abs(record["loss_patches"] - loss) for loss in losses) < 1e-4  # one of both languages
    assert record["loss"] == pytest.approx(record["loss_contrastive"] + 2 * record["loss_patches"], abs=1e-5)

"""A batch in parts has the gradient of the whole batch."""

from __future__ import annotations

import pytest
import torch
from cn_clip.clip.model import CLIP
from heritage_align_plugins.cn_clip.checkpoint import load_checkpoint
from heritage_align_plugins.cn_clip.preprocess import prepare_texts
from heritage_align_plugins.cn_clip.trainable.model import TrainableTowers
from heritage_align_plugins.contrastive.gradient_cache import backward_in_parts
from heritage_align_plugins.contrastive.loss import info_nce
from torch import Tensor

TEXTS = ["红地云纹锦", "绿", "蓝地水纹", "黄地山纹罗", "白", "peony", "卷草", "鹤"]
SAME = {"atol": 1e-6, "rtol": 1e-5}


def gradients(clip: CLIP, parts: int, *, scale: float = 1.0) -> tuple[dict[str, float], dict[str, Tensor]]:
    towers, size = TrainableTowers(clip), len(TEXTS) // parts
    pixels = torch.randn(len(TEXTS), 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = prepare_texts(TEXTS, 12)

    def encode(part: int) -> tuple[Tensor, Tensor]:
        rows = slice(part * size, (part + 1) * size)
        return towers.images(pixels[rows]), towers.texts(tokens[rows])

    def losses(images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        return {"loss": info_nce(images, texts, clip.logit_scale.exp())}

    clip.zero_grad()
    found = backward_in_parts(encode, parts, losses, lambda loss: scale * loss)
    return found, {name: p.grad.clone() for name, p in clip.named_parameters() if p.grad is not None}


@pytest.fixture
def clip(exact_model) -> CLIP:
    return load_checkpoint(exact_model)[0].train()


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_parts_have_the_whole_batch_s_loss_and_gradient(clip, parts):
    (one, whole), (several, cut) = gradients(clip, 1), gradients(clip, parts)
    assert several["loss"] == pytest.approx(one["loss"], abs=1e-6)
    assert set(cut) == set(whole) == {name for name, _ in clip.named_parameters()}
    for name, gradient in whole.items():
        torch.testing.assert_close(cut[name], gradient, msg=name, **SAME)
    # A plain mean over parts, each with its own negatives, is another gradient.
    assert max(gradient.abs().max().item() for gradient in whole.values()) > 1e-2


def test_a_frozen_tower_takes_no_gradient(clip):
    _, whole = gradients(clip, 1)
    clip.visual.requires_grad_(False)
    _, cut = gradients(clip, 4)
    assert not any(name.startswith("visual.") for name in cut)
    for name, gradient in cut.items():
        torch.testing.assert_close(gradient, whole[name], msg=name, **SAME)


def test_a_scaled_loss_gives_a_scaled_gradient_and_an_unscaled_number(clip):
    (one, plain), (other, scaled) = gradients(clip, 4), gradients(clip, 4, scale=64.0)
    assert one == other
    for name, gradient in plain.items():
        torch.testing.assert_close(scaled[name], 64 * gradient, msg=name)


def test_dropout_and_masks_are_drawn_alike_in_both_passes(model):
    clip = load_checkpoint(model)[0].train()
    pixels = torch.randn(2, 4, 3, 32, 32)
    features: list[list[Tensor]] = [[], []]

    def encode(part: int) -> tuple[Tensor, Tensor]:
        images = TrainableTowers(clip).images(pixels[part], mask_ratio=0.5)
        texts = TrainableTowers(clip).texts(prepare_texts(TEXTS[4 * part : 4 * part + 4], 12))
        features[part].append(torch.cat([images, texts]).detach())
        return images, texts

    backward_in_parts(encode, 2, lambda a, b: {"loss": info_nce(a, b, torch.tensor(5.0))}, lambda loss: loss)
    for first, second in features:
        assert torch.equal(first, second)
    encode(0)
    assert not torch.equal(features[0][0], features[0][2])

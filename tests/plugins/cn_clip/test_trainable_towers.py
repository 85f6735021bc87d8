"""The forward pass for training against cn_clip's own: the same features, the same gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cn_clip.clip.model import CLIP
from heritage_align_plugins.cn_clip.architecture import ACTIVATIONS, Architecture, build_model
from heritage_align_plugins.cn_clip.preprocess import prepare_texts
from heritage_align_plugins.cn_clip.trainable.model import TrainableTowers
from torch import Tensor

# Different orders of summation in fp32. Gradients are relative to the largest of their tensor.
FEATURES = {"atol": 2e-6, "rtol": 0}
GRADIENTS = 2e-5

TEXTS = ["蓝地团窠对鸟纹锦", "牡丹", "peony and cloud scroll", "长" * 80, "明代缂丝花鸟图轴,设色典雅"]


def without_dropout(architecture: Architecture) -> Architecture:
    return replace(architecture, text_hidden_dropout_prob=0.0, text_attention_probs_dropout_prob=0.0)


def trained(architecture: Architecture, weights: torch.nn.Module) -> CLIP:
    model = build_model(architecture)
    model.load_state_dict(weights.state_dict())
    return model.train()


def gradients(model: CLIP, features: Tensor) -> dict[str, Tensor]:
    """Return the gradients of a loss that weighs every number of the features differently."""
    model.zero_grad()
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(5))
    (features * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def unit(features: Tensor) -> Tensor:
    return features / features.norm(dim=-1, keepdim=True)


def assert_same_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert set(ours) == set(theirs)
    largest = max(gradient.abs().max().item() for gradient in theirs.values())
    for name, expected in theirs.items():
        # The gradient of a key's bias is zero but for rounding: what is far below all others is compared with them.
        scale = max(expected.abs().max().item(), 1e-2 * largest)
        torch.testing.assert_close(ours[name], expected, atol=GRADIENTS * scale, rtol=0, msg=name)


@pytest.fixture
def vit(tiny_vit, vit_model) -> CLIP:
    return trained(without_dropout(tiny_vit), vit_model)


@pytest.fixture
def resnet(tiny_resnet, resnet_model) -> CLIP:
    return trained(without_dropout(tiny_resnet), resnet_model)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_vit_has_the_features_and_gradients_of_cn_clip(vit, pixels, checkpointing):
    ours = TrainableTowers(vit, checkpointing).images(pixels)
    theirs = unit(vit.encode_image(pixels))
    torch.testing.assert_close(ours, theirs, **FEATURES)
    assert_same_gradients(gradients(vit, ours), gradients(vit, theirs))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_views_are_the_pictures_and_their_projected_tokens(vit, pixels, checkpointing):
    images, patches = TrainableTowers(vit, checkpointing).views(pixels)
    theirs = unit(vit.encode_image(pixels))
    torch.testing.assert_close(images, theirs, **FEATURES)
    assert_same_gradients(gradients(vit, images), gradients(vit, theirs))
    assert patches.shape == (len(pixels), vit.visual.positional_embedding.shape[0] - 1, images.shape[1])
    # cn_clip's last block makes all tokens and gives the first to ln_post alone: give it the others.
    every: list[Tensor] = []
    hook = vit.visual.transformer.register_forward_hook(lambda *given: every.append(given[2]))
    vit.encode_image(pixels)
    hook.remove()
    expected = unit(vit.visual.ln_post(every[0].permute(1, 0, 2)[:, 1:]) @ vit.visual.proj)
    torch.testing.assert_close(patches, expected, **FEATURES)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_flip_leaves_out_the_patches_that_cn_clip_leaves_out(vit, pixels, checkpointing):
    found = []
    for encode in (
        lambda: TrainableTowers(vit, checkpointing).images(pixels, mask_ratio=0.5),
        lambda: unit(vit.encode_image(pixels, 0.5)),
    ):
        torch.manual_seed(11)
        found.append(encode())
    torch.testing.assert_close(*found, **FEATURES)
    assert not torch.allclose(found[0], TrainableTowers(vit).images(pixels), atol=1e-3)
    assert_same_gradients(gradients(vit, found[0]), gradients(vit, found[1]))


def test_a_resnet_has_the_features_gradients_and_statistics_of_cn_clip(tiny_resnet, resnet_model, pixels):
    architecture = without_dropout(tiny_resnet)
    one, other = trained(architecture, resnet_model), trained(architecture, resnet_model)
    ours, theirs = TrainableTowers(one).images(pixels), unit(other.encode_image(pixels))
    torch.testing.assert_close(ours, theirs, **FEATURES)
    assert_same_gradients(gradients(one, ours), gradients(other, theirs))
    for name, buffer in other.named_buffers():
        torch.testing.assert_close(dict(one.named_buffers())[name], buffer, msg=name)


def test_a_resnet_has_no_patches_to_leave_out(resnet, pixels):
    with pytest.raises(ValueError, match="mask_ratio: a ResNet has no patches"):
        TrainableTowers(resnet).images(pixels, mask_ratio=0.5)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[1:2]], ids=["of many lengths", "of one length"])
def test_texts_have_the_features_and_gradients_of_cn_clip(vit, texts, checkpointing):
    tokens = prepare_texts(texts, 52)
    ours, theirs = TrainableTowers(vit, checkpointing).texts(tokens), unit(vit.encode_text(tokens))
    torch.testing.assert_close(ours, theirs, **FEATURES)
    assert_same_gradients(gradients(vit, ours), gradients(vit, theirs))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_of_cn_clip_s_bert(tiny_vit, vit_model, activation):
    model = trained(replace(without_dropout(tiny_vit), text_hidden_act=activation), vit_model)
    tokens = prepare_texts(TEXTS, 52)
    ours, theirs = TrainableTowers(model).texts(tokens), unit(model.encode_text(tokens))
    torch.testing.assert_close(ours, theirs, **FEATURES)
    assert_same_gradients(gradients(model, ours), gradients(model, theirs))


def test_dropout_is_that_of_the_mode_and_comes_back_with_the_seed(tiny_vit, vit_model):
    model = trained(replace(tiny_vit, text_hidden_dropout_prob=0.3), vit_model)
    tokens, towers = prepare_texts(TEXTS, 52), TrainableTowers(model)
    first, other = towers.texts(tokens), towers.texts(tokens)
    assert not torch.allclose(first, other, atol=1e-3)
    torch.manual_seed(3)
    once = gradients(model, towers.texts(tokens))
    torch.manual_seed(3)
    again = gradients(model, TrainableTowers(model, checkpointing=True).texts(tokens))
    assert_same_gradients(once, again)
    model.eval()
    torch.testing.assert_close(towers.texts(tokens), unit(model.encode_text(tokens)), **FEATURES)


def test_half_precision_stays_close_to_cn_clip_under_autocast(vit, pixels):
    exact = TrainableTowers(vit).images(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        ours = TrainableTowers(vit).images(pixels)
        texts = TrainableTowers(vit).texts(prepare_texts(TEXTS, 52))
    assert ours.dtype == texts.dtype == torch.float32
    torch.testing.assert_close(ours, exact, atol=3e-2, rtol=0)
    assert not torch.equal(ours, exact)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)])
def test_the_gpu_agrees_with_the_cpu(vit, pixels, dtype, tolerance):
    tokens = prepare_texts(TEXTS, 52)
    expected = TrainableTowers(vit).images(pixels), TrainableTowers(vit).texts(tokens)
    vit.cuda()
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        found = TrainableTowers(vit).images(pixels.cuda()), TrainableTowers(vit).texts(tokens.cuda())
    for one, other in zip(found, expected):
        torch.testing.assert_close(one.cpu(), other, atol=tolerance, rtol=0)
    assert all(gradient.isfinite().all() for gradient in gradients(vit, found[0].cpu()).values())

"""Features against cn_clip's own encode_image and encode_text on the same weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from cn_clip.clip import tokenize
from cn_clip.clip.model import resize_pos_embed
from cn_clip.clip.utils import image_transform
from heritage_align_plugins.cn_clip.architecture import ACTIVATIONS, OFFICIAL, build_model
from heritage_align_plugins.cn_clip.checkpoint import save_checkpoint
from heritage_align_plugins.cn_clip.config import CnClipConfig
from heritage_align_plugins.cn_clip.encoder import CnClipEncoder
from PIL import Image
from torch.nn.functional import normalize

from heritage_align.ops import Ragged
from heritage_align.protocols import BuildContext, Encoder
from heritage_align.testing import Case, check_component

# Different orders of summation in fp32, on unit vectors.
SAME = {"atol": 2e-6, "rtol": 0}

TEXTS = [
    "蓝地团窠对鸟纹锦",
    "a",
    "Peony AND “cloud” scroll, silk tapestry, Qing dynasty",
    "牡丹",
    "长" * 200,
]


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    noise = torch.randint(0, 256, (90, 130, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Image.fromarray(noise.numpy())


def test_images_of_a_vit_equal_cn_clip(build, vit_file, vit_model, pixels):
    encoded = build(vit_file).encode_pixels(pixels)
    with torch.no_grad():
        expected = normalize(vit_model.encode_image(pixels), dim=-1)
    torch.testing.assert_close(encoded.global_features, expected, **SAME)
    assert encoded.patches is None


def test_images_of_a_resnet_equal_cn_clip(build, resnet_file, resnet_model, pixels):
    with torch.no_grad():
        expected = normalize(resnet_model.encode_image(pixels), dim=-1)
    torch.testing.assert_close(build(resnet_file).encode_pixels(pixels).global_features, expected, **SAME)


def test_texts_equal_cn_clip_whatever_their_lengths(build, vit_file, vit_model):
    lowered = [t.lower().replace("“", '"').replace("”", '"') for t in TEXTS]
    with torch.no_grad():
        expected = normalize(vit_model.encode_text(tokenize(lowered)), dim=-1)
    encoder = build(vit_file)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), expected, **SAME)
    one_by_one = torch.cat([encoder.encode_texts([text]) for text in TEXTS])
    torch.testing.assert_close(one_by_one, expected, **SAME)


def test_long_texts_are_cut_at_the_context_length(build, vit_file):
    encoder = build(vit_file, context_length=12)
    cut = encoder.encode_texts(["锦" * 10, "锦" * 9])
    torch.testing.assert_close(encoder.encode_texts(["锦" * 300])[0], cut[0], **SAME)
    assert not torch.allclose(cut[0], cut[1], atol=1e-4)
    torch.testing.assert_close(encoder.encode_texts(["锦" * 100_000])[0], cut[0], **SAME)


def test_tokens_beyond_the_positions_are_refused_before_anything_runs(build, vit_file):
    with pytest.raises(ValueError, match="positions for 512 tokens, got 513"):
        build(vit_file, context_length=513)


@pytest.mark.parametrize("bad", ["", " \n", None, 3])
def test_a_text_that_is_none_is_named_by_its_position(build, vit_file, bad):
    with pytest.raises(ValueError, match=r"texts\[1\]"):
        build(vit_file).encode_texts(["锦", bad])


def test_no_texts_give_no_rows(build, vit_file):
    assert build(vit_file).encode_texts([]).shape == (0, 24)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK"])
def test_prepare_is_image_transform_bit_for_bit(build, vit_file, picture, mode):
    image = picture.convert(mode)
    assert torch.equal(build(vit_file).prepare(image), image_transform(64)(image))


def test_prepare_gives_the_same_from_many_threads(build, vit_file, picture):
    encoder = build(vit_file)
    crops = [picture.crop((i, i, i + 40, i + 50)) for i in range(30)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(encoder.prepare, crops))
    assert all(torch.equal(a, encoder.prepare(crop)) for a, crop in zip(together, crops))


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 4e-3), ("bf16", 3e-2)])
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_half_precision_stays_close_and_fp32(build, request, pixels, kind, precision, tolerance):
    file = request.getfixturevalue(f"{kind}_file")
    exact, half = build(file), build(file, precision)
    for a, b in (
        (exact.encode_pixels(pixels).global_features, half.encode_pixels(pixels).global_features),
        (exact.encode_texts(TEXTS), half.encode_texts(TEXTS)),
    ):
        assert b.dtype == torch.float32
        torch.testing.assert_close(b.norm(dim=-1), torch.ones(len(b)))
        torch.testing.assert_close(b, a, atol=tolerance, rtol=0)
        assert not torch.equal(a, b)


def test_another_input_size_interpolates_positions_as_cn_clip_does(build, vit_file, vit_model, tiny_vit):
    larger = build_model(tiny_vit.at(96)).eval()
    state = {k: v.clone() for k, v in vit_model.state_dict().items()}
    resize_pos_embed(state, larger)
    larger.load_state_dict(state)
    encoder = build(vit_file, image_size=96)
    pixels = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = normalize(larger.encode_image(pixels), dim=-1)
    torch.testing.assert_close(encoder.encode_pixels(pixels).global_features, expected, **SAME)
    assert encoder.patch_grid == (6, 6)
    assert encoder.fingerprint().endswith("@96px")


def test_a_resnet_takes_another_input_size(build, resnet_file):
    encoded = build(resnet_file, image_size=128).encode_pixels(torch.randn(2, 3, 128, 128))
    assert encoded.global_features.shape == (2, 24)


def test_an_input_size_that_patches_do_not_divide_is_refused(build, vit_file):
    with pytest.raises(ValueError, match="multiple of 16, got 70"):
        build(vit_file, image_size=70)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 3, 64, 96), (1, 1, 64, 64)])
def test_pixels_of_another_shape_are_refused(build, vit_file, shape):
    with pytest.raises(ValueError, match=r"expected \(n, 3, 64, 64\)"):
        build(vit_file).encode_pixels(torch.zeros(shape))


def test_patches_of_a_resnet_are_refused(build, resnet_file, pixels):
    encoder = build(resnet_file)
    assert encoder.patch_grid is None
    with pytest.raises(ValueError, match="tiny-resnet is a ResNet"):
        encoder.encode_pixels(pixels, patches=True)


def test_the_fingerprint_follows_the_weights(build, vit_file, tmp_path, vit_model, tiny_vit):
    save_checkpoint(vit_model, tiny_vit, tmp_path / "half.safetensors", torch.float16)
    one, same, other = build(vit_file), build(vit_file), build(tmp_path / "half.safetensors")
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert one.fingerprint().startswith("cn_clip/tiny-vit/sha256:")


def test_a_full_size_model_builds_and_equals_cn_clip(build):
    encoder = build("ViT-B-16", checkpoint="random", seed=3)
    assert isinstance(encoder, Encoder)
    assert (encoder.dim, encoder.patch_grid) == (512, (14, 14))
    assert encoder.fingerprint() == "cn_clip/ViT-B-16/random:3"
    torch.manual_seed(3)
    model = build_model(OFFICIAL["ViT-B-16"])
    pixels = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        images = normalize(model.eval().encode_image(pixels), dim=-1)
        texts = normalize(model.encode_text(tokenize(TEXTS[:2])), dim=-1)
    encoded = encoder.encode_pixels(pixels, patches=True)
    torch.testing.assert_close(encoded.global_features, images, **SAME)
    torch.testing.assert_close(encoder.encode_texts(TEXTS[:2]), texts, **SAME)
    assert encoded.patches is not None
    assert encoded.patches.shape == (1, 196, 512)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_of_cn_clip_s_bert(build, tiny_vit, tmp_path, activation):
    architecture = replace(tiny_vit, text_hidden_act=activation)
    model = build_model(architecture).eval()
    save_checkpoint(model, architecture, tmp_path / "model.safetensors", torch.float32)
    with torch.no_grad():
        expected = normalize(model.encode_text(tokenize(TEXTS[:1])), dim=-1)
    encoder = build(tmp_path / "model.safetensors")
    torch.testing.assert_close(encoder.encode_texts(TEXTS[:1]), expected, **SAME)


@pytest.mark.parametrize("recipe", ["plain", "clearclip", "naclip"])
def test_boxes_are_pooled_out_of_the_patches_before_they_are_normalised(build, vit_file, pixels, recipe):
    encoder = build(vit_file, patch_features=recipe, regions="roi")
    rows, columns = encoder.patch_grid
    cell = [1 / columns, 2 / rows, 2 / columns, 3 / rows]  # one patch, and the two beside each other with it
    boxes = Ragged(torch.tensor([cell, [0.0, *cell[1:]]]), torch.tensor([0, 2]))
    encoded = encoder.encode_pixels(pixels[:1], patches=True)
    found = encoder.encode_regions(pixels[:1], boxes)
    torch.testing.assert_close(found.global_features, encoded.global_features, **SAME)
    raw = encoder._images(pixels[:1], encoder._recipe)[1][0]
    first, second = 2 * columns, 2 * columns + 1
    torch.testing.assert_close(found.regions[0], encoded.patches[0, second], **SAME)
    torch.testing.assert_close(found.regions[1], normalize(raw[first] + raw[second], dim=-1), **SAME)


def test_conformance_of_pooled_boxes(vit_file):
    results = check_component(Case("encoder", "cn_clip", {"model": str(vit_file), "regions": "roi"}))
    assert {r.check: r.state for r in results}["check_pooled_boxes"] == "passed"


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_conformance(request, kind):
    results = check_component(Case("encoder", "cn_clip", {"model": str(request.getfixturevalue(f"{kind}_file"))}))
    assert sum(r.state == "passed" for r in results) >= 10


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("recipe", ["plain", "clearclip", "naclip"])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 5e-3), ("bf16", 5e-2)])
def test_the_gpu_agrees_with_the_cpu(vit_file, pixels, recipe, precision, tolerance):
    config = CnClipConfig(model=str(vit_file), patch_features=recipe)
    on_cpu = CnClipEncoder(config, BuildContext())
    on_gpu = CnClipEncoder(config, BuildContext(device="cuda", precision=precision))
    a, b = (encoder.encode_pixels(pixels, patches=True) for encoder in (on_cpu, on_gpu))
    for one, other in zip((*a, on_cpu.encode_texts(TEXTS)), (*b, on_gpu.encode_texts(TEXTS))):
        assert other.is_cuda
        torch.testing.assert_close(other.cpu(), one, atol=tolerance, rtol=0)

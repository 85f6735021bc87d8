"""Features against the library's own models and processors, on tiny random weights."""

from __future__ import annotations

import json
import math
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from heritage_align_plugins.transformers.config import TransformersConfig
from heritage_align_plugins.transformers.encoder import TransformersEncoder
from heritage_align_plugins.transformers.pixels import join_patches, split_patches
from PIL import Image
from torch.nn.functional import normalize

from heritage_align.errors import CheckpointError, ConfigError
from heritage_align.ops import Ragged
from heritage_align.protocols import BuildContext, Encoder
from heritage_align.testing import Case, check_component

transformers = pytest.importorskip("transformers", reason="the optional extra 'transformers' is not installed")

FAMILIES = ("chinese_clip", "clip", "siglip", "siglip2")
TEXTS = {"chinese_clip": ["蓝地团窠对鸟纹锦", "牡丹", "silk crane 锦"]}
ENGLISH = ["blue silk", "crane", "scroll silk crane blue blue silk"]
SAME = {"atol": 2e-6, "rtol": 0}


def picture(width: int, height: int) -> Image.Image:
    generator = torch.Generator().manual_seed(width)
    levels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)
    return Image.fromarray(levels.numpy())


def own_model(folder):
    return transformers.AutoModel.from_pretrained(folder).eval(), transformers.AutoProcessor.from_pretrained(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_images_equal_the_library_s_own_way(build, folders, family):
    model, processor = own_model(folders[family])
    # Of squares, SigLIP 2's flexible form sees the same as here; the others get pictures that must be fitted.
    images = [picture(48, 48), picture(90, 90)] if family == "siglip2" else [picture(48, 70), picture(90, 40)]
    options = {"max_num_patches": 16, "patch_size": 8} if family == "siglip2" else {}
    encoder = build(family)
    assert isinstance(encoder, Encoder)
    with torch.no_grad():
        inputs = processor.image_processor(images=images, return_tensors="pt", **options)
        expected = normalize(model.get_image_features(**inputs).pooler_output, dim=-1)
    encoded = encoder.encode_pixels(torch.stack([encoder.prepare(image) for image in images]))
    # SigLIP 2's squares are resized by PIL here and by torch there, which round to 8 bits differently.
    tolerance = 2e-3 if family == "siglip2" else 2e-6
    torch.testing.assert_close(encoded.global_features, expected, atol=tolerance, rtol=0)
    assert encoded.global_features.shape == (2, encoder.dim)
    assert encoded.patches is None


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_equal_the_library_s_own_way(build, folders, family):
    model, processor = own_model(folders[family])
    texts = TEXTS.get(family, ENGLISH)
    padding = "max_length" if family.startswith("siglip") else True
    length = model.config.text_config.max_position_embeddings
    with torch.no_grad():
        options = {"padding": padding, "truncation": True, "max_length": length}
        tokens = processor.tokenizer(texts, return_tensors="pt", **options)
        expected = normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
    encoder = build(family)
    torch.testing.assert_close(encoder.encode_texts(texts), expected, **SAME)
    one_by_one = torch.cat([encoder.encode_texts([text]) for text in texts])
    torch.testing.assert_close(one_by_one, expected, **SAME)


def test_long_texts_are_cut(build):
    encoder = build("chinese_clip")
    long = encoder.encode_texts(["锦" * 500])
    torch.testing.assert_close(long, encoder.encode_texts(["锦" * 18]), **SAME)
    assert not torch.allclose(long, encoder.encode_texts(["锦" * 17]), atol=1e-5)
    with pytest.raises(ValueError, match="positions for 20 tokens, got 21"):
        build("chinese_clip", context_length=21)


@pytest.mark.parametrize("family", ["chinese_clip", "clip"])
@pytest.mark.parametrize("recipe", ["plain", "clearclip", "naclip"])
def test_patches_of_a_clip_are_projected_like_its_class_token(build, folders, family, recipe):
    encoder = build(family, patch_features=recipe, squeeze=True)
    model, _ = own_model(folders[family])
    pixels = torch.randn(2, 3, 32, 32)
    encoded = encoder.encode_pixels(pixels, patches=True)
    vision = model.vision_model
    with torch.no_grad():
        states = vision(pixel_values=pixels, output_hidden_states=True)
        tokens = states.last_hidden_state
        if recipe != "plain":
            last = vision.encoder.layers[-1]
            x = last.layer_norm1(states.hidden_states[-2])
            q = (last.self_attn.q_proj if recipe == "clearclip" else last.self_attn.k_proj)(x)
            v = last.self_attn.v_proj(x)
            near = torch.zeros(17, 17)
            for one in range(16 if recipe == "naclip" else 0):
                for other in range(16):
                    squared = (one // 4 - other // 4) ** 2 + (one % 4 - other % 4) ** 2
                    near[1 + one, 1 + other] = math.exp(-squared / (2 * 5.0**2))
            mixed = torch.zeros_like(x)
            for image in range(2):
                for start in range(0, 32, 8):  # four heads of width eight
                    part = slice(start, start + 8)
                    weights = (q[image, :, part] @ q[image, :, part].T / math.sqrt(8) + near).softmax(-1)
                    mixed[image, :, part] = weights @ v[image, :, part]
            tokens = last.self_attn.out_proj(mixed)
        expected = normalize(model.visual_projection(vision.post_layernorm(tokens)), dim=-1)
    assert encoder.patch_grid == (4, 4)
    torch.testing.assert_close(encoded.patches, expected[:, 1:], **SAME)
    whole = normalize(model.get_image_features(pixels).pooler_output, dim=-1)
    torch.testing.assert_close(encoded.global_features, whole.detach(), **SAME)


@pytest.mark.parametrize("family", ["siglip", "siglip2"])
def test_patches_of_a_siglip_pass_its_head_one_by_one(build, folders, family):
    encoder = build(family)
    model, _ = own_model(folders[family])
    pixels = torch.randn(2, 3, 32, 32)
    inputs = split_patches(pixels, 8) if family == "siglip2" else {"pixel_values": pixels}
    with torch.no_grad():
        tokens = model.vision_model(**inputs).last_hidden_state
        attention = model.vision_model.head.attention
        value = tokens @ attention.in_proj_weight[64:].T + attention.in_proj_bias[64:]
        mixed = attention.out_proj(value)
        expected = mixed + model.vision_model.head.mlp(model.vision_model.head.layernorm(mixed))
    encoded = encoder.encode_pixels(pixels, patches=True)
    assert encoded.patches.shape == (2, 16, 32)
    torch.testing.assert_close(encoded.patches, normalize(expected, dim=-1), **SAME)
    with pytest.raises(ValueError, match="clearclip is for CLIP"):
        build(family, patch_features="clearclip")


@pytest.mark.parametrize("family", FAMILIES)
def test_boxes_are_pooled_out_of_the_patches_of_one_pass(build, folders, family):
    encoder = build(family, squeeze=True, regions="roi")
    pixels = torch.randn(2, 3, 32, 32)
    boxes = Ragged(torch.tensor([[0.0, 0.25, 0.25, 0.5], [0.1, 0.1, 0.8, 0.4]]), torch.tensor([0, 1, 2]))
    encoded, found = encoder.encode_pixels(pixels, patches=True), encoder.encode_regions(pixels, boxes)
    torch.testing.assert_close(found.global_features, encoded.global_features, **SAME)
    torch.testing.assert_close(found.regions[0], encoded.patches[0, 4], **SAME)  # the box of that patch
    assert found.regions.shape == (2, encoder.dim)
    results = check_component(
        Case("encoder", "transformers", {"model": str(folders[family]), "squeeze": True, "regions": "roi"})
    )
    assert {r.check: r.state for r in results}["check_pooled_boxes"] == "passed"


def test_models_without_patches_to_pool_are_refused(folders, tmp_path):
    cropping = TransformersConfig(model=str(folders["clip"]), regions="roi")
    with pytest.raises(ValueError, match="regions: roi pools .* cuts the borders away; set squeeze: true"):
        cropping.facts()
    with pytest.raises(ValueError, match="regions: roi pools .* cuts the borders away; set squeeze: true"):
        TransformersEncoder(cropping, BuildContext())
    (tmp_path / "config.json").write_text('{"model_type": "align"}')
    with pytest.raises(ValueError, match="there are none: a 'align' model has none"):
        TransformersConfig(model=str(tmp_path), regions="roi").facts()
    assert "boxes" in TransformersConfig(model="org/on-the-hub", regions="roi").facts().outputs


@pytest.mark.parametrize(
    "settings", [{"model_type": "fgclip2"}, {"model_type": "clip", "architectures": ["FGCLIPModel"]}]
)
def test_an_fg_clip_is_sent_to_its_own_encoder(tmp_path, settings):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="is an FG-CLIP; take encoder {name: fg_clip"):
        TransformersConfig(model=str(tmp_path)).facts()


@pytest.mark.parametrize(
    "settings",
    [
        {"model_type": ["clip"], "architectures": 3, "vision_config": "x"},
        {"model_type": "siglip", "vision_config": 3},
        {"vision_config": [1]},
    ],
)
def test_settings_of_other_types_are_named(tmp_path, settings):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=r"config\.json: vision_config is no object"):
        TransformersConfig(model=str(tmp_path)).facts()


def test_patches_of_a_cropping_processor_are_refused(build, folders):
    settings = {"model": str(folders["clip"])}
    assert TransformersConfig(**settings).facts().outputs == ("global", "texts")
    assert "patches" in TransformersConfig(**settings, squeeze=True).facts().outputs
    assert "patches" in TransformersConfig(model=str(folders["chinese_clip"])).facts().outputs
    with pytest.raises(ValueError, match="squeeze: true"):
        build("clip").encode_pixels(torch.zeros(1, 3, 32, 32), patches=True)


def test_squeeze_keeps_the_borders_that_clip_crops(build):
    image = Image.new("RGB", (64, 32))
    image.paste((255, 0, 0), (0, 0, 8, 32))
    assert build("clip").prepare(image)[0].max() < 0
    assert build("clip", squeeze=True).prepare(image)[0, :, 0].min() > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_another_input_size(build, family):
    encoder = build(family, image_size=48)
    pixels = torch.stack([encoder.prepare(picture(50, 80))] * 2)
    assert pixels.shape == (2, 3, 48, 48)
    encoded = encoder.encode_pixels(pixels, patches=True)
    assert encoder.patch_grid == (6, 6)
    assert encoded.patches.shape == (2, 36, encoder.dim)
    assert encoder.fingerprint().endswith("@48px")
    with pytest.raises(ValueError, match="multiple of 8, got 50"):
        build(family, image_size=50)


def test_patches_are_split_and_joined_as_the_processor_does(folders):
    processor = transformers.AutoImageProcessor.from_pretrained(folders["siglip2"])
    image = picture(32, 32)
    rows = processor(images=image, return_tensors="pt", max_num_patches=16, patch_size=8)
    pixels = join_patches(rows["pixel_values"][0], 8)
    levels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    torch.testing.assert_close(pixels, levels / 127.5 - 1)
    again = split_patches(pixels[None], 8)
    assert torch.equal(again["pixel_values"], rows["pixel_values"])
    assert torch.equal(again["pixel_attention_mask"], rows["pixel_attention_mask"].long())
    assert torch.equal(again["spatial_shapes"], rows["spatial_shapes"])


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_returns_fp32_unit_rows(build, family):
    pixels = torch.randn(3, 3, 32, 32)
    texts = TEXTS.get(family, ENGLISH)
    exact, half = build(family, squeeze=True), build(family, "bf16", squeeze=True)
    a, b = (e.encode_pixels(pixels, patches=True) for e in (exact, half))
    for one, other in zip((*a, exact.encode_texts(texts)), (*b, half.encode_texts(texts))):
        assert other.dtype == torch.float32
        torch.testing.assert_close(other.norm(dim=-1), torch.ones(other.shape[:-1]))
        assert (one * other).sum(-1).min() > 0.99


def test_prepare_from_many_threads(build):
    encoder = build("chinese_clip")
    images = [picture(40 + i, 60) for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(encoder.prepare, images))
    assert all(torch.equal(a, encoder.prepare(image)) for a, image in zip(together, images))


def test_bad_inputs_are_named(build):
    encoder = build("siglip")
    with pytest.raises(ValueError, match=r"texts\[1\]"):
        encoder.encode_texts(["silk", " "])
    with pytest.raises(ValueError, match=r"expected \(n, 3, 32, 32\), got \(1, 3, 32, 40\)"):
        encoder.encode_pixels(torch.zeros(1, 3, 32, 40))
    assert encoder.encode_texts([]).shape == (0, 32)


def test_facts_come_from_the_folder(folders, tmp_path):
    dims = {f: TransformersConfig(model=str(folders[f])).facts().dim for f in FAMILIES}
    assert dims == {"chinese_clip": 24, "clip": 24, "siglip": 32, "siglip2": 32}
    missing = TransformersConfig(model=str(tmp_path / "none")).facts()
    assert missing.files == {"model": tmp_path / "none" / "config.json"}
    assert TransformersConfig(model="OFA-Sys/chinese-clip-vit-base-patch16").facts().dim is None
    for damaged in ("{", "[" * 5000):
        (tmp_path / "config.json").write_text(damaged)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            TransformersConfig(model=str(tmp_path)).facts()


def test_the_fingerprint_follows_the_weights(build, folders, tmp_path):
    model, _ = own_model(folders["clip"])
    shutil.copytree(folders["clip"], tmp_path / "other")
    model.logit_scale.data += 1
    model.save_pretrained(tmp_path / "other")
    other = TransformersEncoder(TransformersConfig(model=str(tmp_path / "other")), BuildContext())
    assert build("clip").fingerprint() == build("clip", "bf16").fingerprint() != other.fingerprint()


def test_missing_weights_are_not_filled_with_random_ones(folders, tmp_path):
    shutil.copytree(folders["clip"], tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "config.json").read_text())
    settings["text_config"]["num_hidden_layers"] = 4
    (tmp_path / "model" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=r"16 weights are missing \(text_model.encoder.layers.3"):
        TransformersEncoder(TransformersConfig(model=str(tmp_path / "model")), BuildContext())


def refused(model):
    with pytest.raises(CheckpointError) as caught:
        TransformersEncoder(TransformersConfig(model=str(model)), BuildContext())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def without_words(file):
    """Leave the marks of a tokenizer alone."""
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    marks = {token["content"] for token in tokenizer["added_tokens"]}
    vocabulary = {word: number for word, number in tokenizer["model"]["vocab"].items() if word in marks}
    tokenizer["model"]["vocab"] = vocabulary
    file.write_text(json.dumps(tokenizer), encoding="utf-8")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("settings", [True, False], ids=["settings", "nothing"])
def test_a_model_without_its_tokenizer_is_refused(folders, tmp_path, hub_cache, family, settings):
    """The library makes up a tokenizer that knows no word, with which all texts have the same vector."""
    folder = tmp_path / "model"
    shutil.copytree(folders[family], folder)
    (folder / "tokenizer.json").unlink()
    if not settings:
        (folder / "tokenizer_config.json").unlink()
    assert f"{folder}: there is no tokenizer (tokenizer.json): fetch" in refused(folder)
    hub_cache("silk/crane", folder)
    assert refused("silk/crane").startswith("silk/crane: ")


@pytest.mark.parametrize("family", ["chinese_clip", "siglip2"])
def test_a_tokenizer_that_knows_marks_alone_is_refused(folders, tmp_path, hub_cache, family):
    folder = tmp_path / "model"
    shutil.copytree(folders[family], folder)
    without_words(folder / "tokenizer.json")
    assert "its tokenizer knows no word" in refused(folder)
    hub_cache("silk/crane", folder)
    assert "silk/crane: its tokenizer knows no word" in refused("silk/crane")


def test_half_a_tokenizer_is_refused(folders, tmp_path, hub_cache):
    """CLIP's words without its merges: the library reads every text letter by letter."""
    folder = tmp_path / "model"
    shutil.copytree(folders["clip"], folder)
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}')
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    assert "there is no tokenizer (vocab.json alone, without merges.txt)" in refused(folder)
    hub_cache("silk/crane", folder)
    assert refused("silk/crane").startswith("silk/crane: ")


@pytest.mark.parametrize("kind", ["empty", "bert", "damaged"])
def test_a_folder_of_something_else_is_named(folders, tmp_path, kind):
    if kind == "bert":
        transformers.BertModel(
            transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
        ).save_pretrained(tmp_path)
    elif kind == "damaged":
        shutil.copytree(folders["clip"], tmp_path, dirs_exist_ok=True)
        (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        TransformersEncoder(TransformersConfig(model=str(tmp_path)), BuildContext())


@pytest.mark.parametrize(("family", "squeeze"), [*((family, False) for family in FAMILIES), ("clip", True)])
def test_conformance(folders, family, squeeze):
    settings = {"model": str(folders[family]), "squeeze": squeeze}
    results = check_component(Case("encoder", "transformers", settings))
    assert sum(r.state == "passed" for r in results) >= 10


def gemma_named_checkpoint(folders, tmp_path):
    """SigLIP 2 of fixed size as the hub has it: model type siglip, a tokenizer that keeps case and says no side."""
    from tokenizers import Tokenizer, models, normalizers, processors

    folder = tmp_path / "siglip2-fixed"
    shutil.copytree(folders["siglip"], folder)
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{value:02X}>" for value in range(256))]
    backend = Tokenizer(
        models.BPE({token: i for i, token in enumerate(tokens)}, [], byte_fallback=True, unk_token="<unk>")
    )
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    backend.save(str(folder / "tokenizer.json"))
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GemmaTokenizer", **special}))
    return folder


def test_fixed_size_siglip_2_reads_texts_as_it_was_trained(folders, tmp_path):
    folder = gemma_named_checkpoint(folders, tmp_path)
    encoder = TransformersEncoder(TransformersConfig(model=str(folder)), BuildContext())
    assert type(encoder._tokens._tokenizer).__name__ == "GemmaTokenizer"
    rows = encoder.encode_texts(["jade cup", "Jade Cup", "JADE CUP"])
    torch.testing.assert_close(rows[1:], rows[:1].expand(2, -1), **SAME)
    ids = encoder._tokens(["jade"])["input_ids"][0].tolist()
    assert len(ids) == 16
    assert ids[ids.index(1) :] == [1] + [0] * (15 - ids.index(1)), "padded on the right, behind the mark of its end"
    short = TransformersEncoder(TransformersConfig(model=str(folder), context_length=8), BuildContext())
    assert short._tokens(["jade"])["input_ids"].shape == (1, 16)
    torch.testing.assert_close(short.encode_texts(["jade"]), encoder.encode_texts(["jade"]), **SAME)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_of_texts_is_counted(build, family):
    encoder = build(family, context_length=8)
    counted = encoder.read_texts(["silk", "silk " * 30])
    assert counted[0].known > 0
    assert counted[1].tokens > encoder.context_length
    assert counted[1].known <= encoder.context_length
    if family == "chinese_clip":
        assert encoder.read_texts(["quartz"])[0].known == 0


def changed(folder, file, **settings):
    """Change settings in a file of a folder; those of a section are named section__setting."""
    whole = json.loads((folder / file).read_text(encoding="utf-8"))
    for key, value in settings.items():
        *sections, last = key.split("__")
        part = whole
        for section in sections:
            part = part[section]
        part[last] = value
    (folder / file).write_text(json.dumps(whole), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "settings", "says"),
    [
        ("config.json", {"text_config__hidden_size": "32"}, "for field 'hidden_size': TypeError: .* got str"),
        ("config.json", {"text_config__num_attention_heads": 5}, "is not a multiple of the number of attention heads"),
        ("config.json", {"text_config__num_attention_heads": 0}, "AutoConfig cannot load it: ZeroDivisionError"),
        ("config.json", {"text_config__hidden_act": "none"}, "AutoModel cannot load it: KeyError: 'none'"),
        ("config.json", {"vision_config__image_size": [32, 32]}, "AutoModel cannot load it: TypeError"),
        ("config.json", {"text_config__vocab_size": 10**30}, "AutoModel cannot load it: TypeError: .*Overflow"),
        ("config.json", {"model_type": ["clip"]}, "AutoConfig cannot load it: TypeError: unhashable type"),
        ("config.json", {"quantization_config": [3]}, "AutoConfig cannot load it: AttributeError"),
        ("config.json", {"text_config__layer_norm_eps": float("nan")}, "makes NaN or infinite numbers of a text"),
        ("config.json", {"projection_dim": 20}, r"has shape \(24, 32\), and by the model's settings \(20, 32\)"),
        ("tokenizer_config.json", {"model_max_length": "77"}, r"texts of '77' tokens \(model_max_length\)"),
        ("tokenizer_config.json", {"model_max_length": 2}, "hold no word"),
        ("tokenizer_config.json", {"model_max_length": float("nan")}, "hold no word"),
        ("tokenizer_config.json", {"pad_token": None}, "its tokenizer has no pad_token"),
        ("tokenizer_config.json", {"tokenizer_class": "BertTokenizer"}, "it is another model's tokenizer"),
        ("preprocessor_config.json", {"image_mean": ["a"] * 3}, "cannot be used: too many dimensions 'str'"),
        ("preprocessor_config.json", {"rescale_factor": "x"}, "cannot be used: TypeError: unsupported operand"),
        ("preprocessor_config.json", {"resample": 77}, "cannot be used: KeyError: 77"),
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}, "makes NaN or infinite numbers of a picture"),
    ],
)
def test_what_the_library_makes_of_odd_settings_is_one_line(folders, tmp_path, file, settings, says):
    folder = shutil.copytree(folders["clip"], tmp_path / "odd")
    changed(folder, file, **settings)
    assert re.search(says, refused(folder)), refused(folder)


@pytest.mark.parametrize(
    ("kind", "sizes"), [("MetaClip2", {}), ("AltCLIP", {"project_dim": 24}), ("CLIPSeg", {}), ("OwlViT", {})]
)
def test_a_family_that_says_its_dimensions_elsewhere(other_family, kind, sizes):
    """Its towers are 32 wide, its space has 24 dimensions."""
    config = TransformersConfig(model=str(other_family(kind, **sizes)))
    assert config.facts().dim is None
    encoder = TransformersEncoder(config, BuildContext())
    assert encoder.dim == encoder.encode_texts(["silk"]).shape[1] == 24
    assert encoder.encode_pixels(torch.zeros(2, 3, 32, 32)).global_features.shape == (2, 24)
    assert encoder.encode_texts([]).shape == (0, 24)


def test_a_family_without_such_towers_is_one_line(other_family):
    assert "'FlavaConfig' object has no attribute 'vision_config'" in refused(other_family("Flava"))


def test_a_processor_of_pictures_and_texts_together_crops_as_well(folders, tmp_path):
    """The library saves it in one file, and reads what is in that before the file of pictures alone."""
    folder = shutil.copytree(folders["clip"], tmp_path / "together")
    pictures = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": pictures}), encoding="utf-8")
    changed(folder, "preprocessor_config.json", do_center_crop=False)
    assert TransformersConfig(model=str(folder)).facts().outputs == ("global", "texts")
    with pytest.raises(ValueError, match="its processor cuts the borders away; set squeeze: true"):
        TransformersConfig(model=str(folder), regions="roi").facts()
    (folder / "preprocessor_config.json").unlink()
    assert TransformersConfig(model=str(folder)).facts().outputs == ("global", "texts")
    changed(folder, "processor_config.json", image_processor__do_center_crop=False)
    assert "patches" in TransformersConfig(model=str(folder)).facts().outputs


@pytest.mark.parametrize("name", ["transformers", "fg_clip", "open_clip", "sentence_transformers", "cross_encoder"])
def test_the_home_of_nobody_is_no_folder(name):
    kind = "reranker" if name == "cross_encoder" else "encoder"
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        Case(kind, name, {"model": "~no-such-user-here/model"}).build()
    assert "~no-such-user-here/model" in str(caught.value)

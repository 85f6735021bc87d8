"""Features against open_clip's own calls, on tiny random weights saved as the library does, and on the zoo's names."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image
from torch.nn.functional import normalize

open_clip = pytest.importorskip("open_clip", reason="the optional extra 'open-clip' is not installed")
transformers = pytest.importorskip("transformers", reason="the optional extra 'transformers' is not installed")

from heritage_align_plugins.open_clip.config import OpenClipConfig  # noqa: E402
from heritage_align_plugins.open_clip.encoder import OpenClipEncoder  # noqa: E402

from heritage_align import Pipeline, load_config  # noqa: E402
from heritage_align.cli import cli  # noqa: E402
from heritage_align.errors import CheckpointError, ConfigError  # noqa: E402
from heritage_align.protocols import BuildContext, Encoder  # noqa: E402
from heritage_align.testing import Case, check_component  # noqa: E402

TEXTS = ["blue silk", "a crane, 鹤, among clouds", "蓝地缠枝莲纹锦"]
SAME = {"atol": 2e-6, "rtol": 0}
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}
TIMM = {
    "image_size": 160,
    "timm_model_name": "test_vit3",
    "timm_model_pretrained": False,
    "timm_pool": "map",
    "timm_proj": "linear",
}
TOWERS = {
    "vit": (VIT, {}),
    "vit-squash": (VIT, {"resize_mode": "squash", "interpolation": "bilinear"}),
    "pooled": ({**VIT, "attentional_pool": True, "attn_pooler_heads": 4}, {"resize_mode": "squash"}),
    "resnet": (RESNET, {}),
    "timm": (TIMM, {"resize_mode": "squash", "mean": [0.5] * 3, "std": [0.5] * 3}),
}


def picture(width, height):
    levels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("open_clip")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for name, (vision, ways) in TOWERS.items():
            settings = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT}
            kind = open_clip.model.CustomTextCLIP if name == "timm" else open_clip.model.CLIP
            model = kind(**settings)
            for parameter in model.parameters():
                parameter.data.add_(0.05 * torch.randn_like(parameter))
            folder = root / name
            folder.mkdir()
            settings = {**settings, "custom_text": True} if name == "timm" else settings
            (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": ways}))
            torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return {name: root / name for name in TOWERS}


def build(folder, **settings):
    return OpenClipEncoder(OpenClipConfig(model=str(folder), **settings), BuildContext())


def own(folder):
    source = f"local-dir:{folder}"
    model, _, prepare = open_clip.create_model_and_transforms(source)
    return model.eval(), prepare, open_clip.get_tokenizer(source)


def prepared(encoder, images):
    return torch.stack([encoder.prepare(image) for image in images])


@pytest.mark.parametrize("name", TOWERS)
def test_features_are_those_of_the_library(folders, name):
    encoder, (model, prepare, tokenizer) = build(folders[name]), own(folders[name])
    assert isinstance(encoder, Encoder)
    images = [picture(40, 60), picture(90, 33), picture(1, 1)]
    with torch.inference_mode():
        expected = model.encode_image(torch.stack([prepare(image) for image in images]), normalize=True)
        texts = model.encode_text(tokenizer(TEXTS), normalize=True)
    torch.testing.assert_close(encoder.encode_pixels(prepared(encoder, images)).global_features, expected, **SAME)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), texts, **SAME)
    assert encoder.dim == 24


def test_patches_of_a_vit_are_projected_as_the_class_token(folders):
    encoder, (model, _, _) = build(folders["vit-squash"]), own(folders["vit-squash"])
    pixels = prepared(encoder, [picture(40, 60)])
    model.visual.output_tokens = True
    with torch.inference_mode():
        pooled, tokens = model.visual(pixels)
        expected = normalize(tokens @ model.visual.proj, dim=-1)
    encoded = encoder.encode_pixels(pixels, patches=True)
    assert encoder.patch_grid == (4, 4)
    torch.testing.assert_close(encoded.patches, expected, **SAME)
    torch.testing.assert_close(encoded.global_features, normalize(pooled, dim=-1), **SAME)


def test_patches_of_a_timm_tower_are_each_what_its_head_sees(folders):
    encoder, (model, _, _) = build(folders["timm"]), own(folders["timm"])
    pixels = prepared(encoder, [picture(40, 60)])
    encoded = encoder.encode_pixels(pixels, patches=True)
    assert encoder.patch_grid == (10, 10)
    trunk = model.visual.trunk
    with torch.inference_mode():
        tokens = trunk.forward_features(pixels)[:, trunk.num_prefix_tokens :]
        alone = [model.visual.head(trunk.fc_norm(trunk.attn_pool(tokens[:, i : i + 1]))) for i in range(100)]
    torch.testing.assert_close(encoded.patches[0], normalize(torch.cat(alone), dim=-1), **SAME)
    torch.testing.assert_close(encoded.global_features, encoder.encode_pixels(pixels).global_features, **SAME)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("vit", {}, "set squeeze: true"),
        ("pooled", {}, "has none in the space of texts"),
        ("resnet", {"squeeze": True}, "has none in the space of texts"),
    ],
)
def test_patches_that_are_not_to_be_had_are_refused(folders, name, settings, says):
    encoder = build(folders[name], **settings)
    assert encoder.patch_grid is None
    with pytest.raises(ValueError, match=says):
        encoder.encode_pixels(prepared(encoder, [picture(40, 60)]), patches=True)
    config = {
        "version": 1,
        "name": "x",
        "encoder": {"name": "open_clip", "model": str(folders[name]), **settings},
        "proposer": {"name": "patch_grid"},
        "fragmenter": {"name": "annotated"},
        "similarity": {"name": "late_interaction"},
    }
    with pytest.raises(ConfigError, match="needs an encoder with patch features"):
        Pipeline.from_config(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [("vit", {}), ("vit", {"squeeze": True}), ("pooled", {}), ("resnet", {}), ("timm", {})],
)
def test_it_conforms(folders, name, settings):
    results = check_component(Case("encoder", "open_clip", {"model": str(folders[name]), **settings}))
    recipe = {r.check: r.state for r in results}["check_recipe_is_what_prepare_does"]
    assert recipe == ("skipped" if name in ("vit", "resnet") and not settings else "passed")


def test_squeezing_shows_the_whole_picture(folders):
    encoder = build(folders["vit"], squeeze=True)
    wide = picture(90, 30)
    marked = wide.copy()
    marked.paste((255, 0, 0), (0, 0, 8, 30))
    plain = build(folders["vit"])
    assert torch.equal(plain.prepare(wide), plain.prepare(marked))
    assert not torch.equal(encoder.prepare(wide), encoder.prepare(marked))


def test_a_model_of_the_zoo_takes_a_file_of_weights(tmp_path, monkeypatch):
    """A name of the zoo, made small: its own settings, a file of weights, and the ways of its tag."""
    config = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT}
    (tmp_path / "Tiny-ViT.json").write_text(json.dumps(config))
    before = dict(open_clip.factory._MODEL_CONFIGS), list(open_clip.factory._MODEL_CONFIG_PATHS)
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", before[0])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", before[1])
    open_clip.add_model_config(tmp_path / "Tiny-ViT.json")
    torch.manual_seed(1)
    model = open_clip.create_model("Tiny-ViT", force_quick_gelu=True)
    weights = tmp_path / "tiny.pt"
    torch.save(model.state_dict(), weights)
    pixels = torch.randn(1, 3, 32, 32)
    tag = {"url": "https://example.org/models/tiny.pt", "quick_gelu": True, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "Tiny-ViT", {"own": tag})
    by_file = build("Tiny-ViT", pretrained=str(weights))
    assert by_file.fingerprint().startswith("open_clip/Tiny-ViT/sha256:")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"fetch https://example.org/models/tiny.pt once, as .*/clip/tiny.pt"):
        build("Tiny-ViT", pretrained="own")
    (tmp_path / ".cache" / "clip").mkdir(parents=True)
    shutil.copy(weights, tmp_path / ".cache" / "clip" / "tiny.pt")
    by_tag = build("Tiny-ViT", pretrained="own")
    with torch.inference_mode():
        expected = model.eval().encode_image(pixels, normalize=True)
    torch.testing.assert_close(by_tag.encode_pixels(pixels).global_features, expected, **SAME)
    # Weights that were trained with QuickGELU and are read without it give other vectors, and the library only warns.
    assert not torch.allclose(by_file.encode_pixels(pixels).global_features, expected, atol=1e-4)
    assert by_tag.prepare(picture(32, 32)).min() == -1


def refused(model, **settings):
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        Case("encoder", "open_clip", {"model": str(model), **settings}).build()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_weights_that_are_not_there_are_named(folders, tmp_path):
    assert "is no model of open_clip's zoo" in refused("ViT-B-33")
    assert "Did you mean 'ViT-B-32'" in refused("ViT-B-33")
    assert "needs pretrained, a tag or a file of weights; tags: openai, laion400m_e31" in refused("ViT-B-32")
    assert "pretrained 'webly' is neither a tag nor a file" in refused("ViT-B-16-SigLIP2", pretrained="webly")
    said = refused("ViT-B-16-SigLIP2", pretrained="webli")
    assert "not in the cache of the Hugging Face hub" in said
    assert "hf download timm/ViT-B-16-SigLIP2" in said
    assert "hf download org/none" in refused("org/none")
    assert "there is no such folder" in refused(tmp_path / "none")
    assert "cannot read the model's settings" in refused(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("[" * 5000)
    assert "cannot read the model's settings: maximum recursion" in refused(tmp_path)
    folder = tmp_path / "model"
    shutil.copytree(folders["vit"], folder)
    (folder / "open_clip_pytorch_model.bin").unlink()
    assert "there is neither open_clip_model.safetensors nor" in refused(folder)
    (folder / "open_clip_config.json").write_text('{"model": 1}')
    assert "has no model_cfg" in refused(folder)


def test_damaged_weights_are_named(folders, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(folders["vit"], folder)
    file = folder / "open_clip_pytorch_model.bin"
    state = torch.load(file)
    torch.save({key: value for key, value in state.items() if key != "visual.proj"}, file)
    assert "visual.proj" in refused(folder) or "cannot load it" in refused(folder)
    state["visual.proj"].fill_(float("nan"))
    torch.save(state, file)
    assert "NaN" in refused(folder)
    file.write_bytes(b"not weights at all")
    assert "cannot load it" in refused(folder)
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "Git LFS" in refused(folder)


def test_a_tokenizer_that_is_not_in_the_cache_is_named(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    folder = tmp_path / "model"
    shutil.copytree(folders["vit"], folder)
    settings = json.loads((folder / "open_clip_config.json").read_text())
    settings["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "org/none"
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    assert f"{folder}: there is no tokenizer (tokenizer.json)" in refused(folder)


@pytest.fixture
def small_zoo(monkeypatch, tmp_path):
    """A function that gives the zoo a small model, Tiny-ViT, whose texts are read as `text` says, with a tag, own, in a
    repository of the hub, and returns its weights' file."""
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", list(open_clip.factory._MODEL_CONFIG_PATHS))

    def made(**text):
        config = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": {**TEXT, **text}}
        (tmp_path / "Tiny-ViT.json").write_text(json.dumps(config))
        open_clip.add_model_config(tmp_path / "Tiny-ViT.json")
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "Tiny-ViT", {"own": {"hf_hub": "silk/tiny/"}})
        torch.manual_seed(1)
        weights = tmp_path / "weights" / "open_clip_pytorch_model.bin"
        weights.parent.mkdir()
        torch.save(open_clip.create_model("Tiny-ViT").state_dict(), weights)
        return weights

    return made


def check(*arguments):
    return CliRunner().invoke(cli, ["models", "check", *map(str, arguments)])


def reports(*arguments):
    found = check(*arguments, "--json")
    assert found.stdout, found.stderr
    return json.loads(found.stdout)


def test_a_tag_s_files_are_told(small_zoo, hub_cache):
    weights = small_zoo()
    (found,) = reports("Tiny-ViT:own")
    assert (found["component"], found["model"]) == ("encoder.open_clip", "Tiny-ViT:own")
    assert found["get"] == "hf download silk/tiny --include open_clip_model.safetensors"
    assert check("Tiny-ViT:own").exit_code == 2
    assert "hf download silk/tiny open_clip_model.safetensors" in refused("Tiny-ViT", pretrained="own")
    (weights.parent / "README.md").write_text("---\nlicense: mit\n---\n")
    snapshot = hub_cache("silk/tiny", weights.parent)
    (found,) = reports("Tiny-ViT:own")
    assert (found["whole"], found["license"], found["revision"]) == (True, "mit", snapshot.name)
    [file] = found["files"]
    assert file["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert build("Tiny-ViT", pretrained="own").fingerprint().startswith("open_clip/Tiny-ViT/sha256:")
    encoder = {"name": "open_clip", "model": "Tiny-ViT", "pretrained": "own"}
    config = load_config({"version": 1, "name": "x", "encoder": encoder, "similarity": {"name": "global"}})
    assert yaml.safe_load(config.to_yaml())["encoder"]["revision"] == snapshot.name
    (by_file,) = reports(f"Tiny-ViT:{weights}")
    assert [one["name"] for one in by_file["files"]] == [weights.name]
    assert by_file["whole"]
    assert (
        build("Tiny-ViT", pretrained="own", revision=snapshot.name).fingerprint()
        == build("Tiny-ViT", pretrained=str(weights)).fingerprint()
    )


def test_a_tokenizer_of_another_repository_is_told_and_needed(small_zoo, hub_cache, tmp_path):
    weights = small_zoo(hf_tokenizer_name="silk/words")
    hub_cache("silk/tiny", weights.parent)
    own, other = reports("Tiny-ViT:own")
    assert (own["whole"], other["model"], other["whole"]) == (True, "silk/words", False)
    assert other["get"].startswith("hf download silk/words --include config.json --include 'tokenizer*' ")
    assert "needs files of silk/words, which is not in the cache" in refused("Tiny-ViT", pretrained="own")
    words = tmp_path / "words"
    words.mkdir()
    (words / "config.json").write_text('{"architecture": "vit_small"}')  # as timm's, which names no tokenizer
    snapshot = hub_cache("silk/words", words)
    assert not reports("Tiny-ViT:own")[1]["whole"]
    # The library makes one up from the settings, and all texts are alike.
    assert "silk/words: there is no tokenizer (tokenizer.json)" in refused("Tiny-ViT", pretrained="own")
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    transformers.BertTokenizer(vocab={word: n for n, word in enumerate(marks)}).save_pretrained(snapshot)
    assert "its tokenizer knows no word" in refused("Tiny-ViT", pretrained="own")
    vocabulary = {word: n for n, word in enumerate([*marks, "blue", "silk"])}
    transformers.BertTokenizer(vocab=vocabulary).save_pretrained(snapshot)
    assert [one["whole"] for one in reports("Tiny-ViT:own")] == [True, True]
    one, other = build("Tiny-ViT", pretrained="own").encode_texts(["blue silk", "silk silk"])
    assert not torch.allclose(one, other)


def test_a_folder_and_a_repository_are_told(folders, hub_cache, tmp_path):
    (found,) = reports(folders["vit"])
    assert (found["component"], found["whole"]) == ("encoder.open_clip", True)
    assert [file["name"] for file in found["files"]] == ["open_clip_config.json", "open_clip_pytorch_model.bin"]
    hub_cache("silk/vit", folders["vit"])
    for name in ("silk/vit", "hf-hub:silk/vit"):
        (found,) = reports(name)
        assert (found["component"], found["whole"], found["revision"] is not None) == ("encoder.open_clip", True, True)
        assert build(name).fingerprint() == build(folders["vit"]).fingerprint()
    assert build(f"local-dir:{folders['vit']}").fingerprint() == build(folders["vit"]).fingerprint()
    (found,) = reports(f"local-dir:{folders['vit']}")
    assert found["whole"]
    folder = tmp_path / "model"
    shutil.copytree(folders["vit"], folder)
    settings = json.loads((folder / "open_clip_config.json").read_text())
    settings["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "org/none"
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    (found,) = reports(folder)  # the library looks for it in the folder, whatever it is called
    assert [file["part"] for file in found["files"] if file["state"] == "missing"] == ["tokenizer"]


@pytest.mark.usefixtures("hub_cache")
def test_names_that_say_too_little_or_nothing(tmp_path):
    for name, says in (
        ("ViT-B-32", "it needs pretrained, a tag or a file of weights; tags: openai"),
        ("ViT-B-33:openai", "Did you mean 'ViT-B-32'"),
        ("ViT-B-32:opnai", "pretrained 'opnai' is neither a tag nor a file; tags: openai"),
        ("hf-hub:", "is no config, no recipe, and no model"),
        ("hf-hub:nonsense", "is no config, no recipe, and no model"),
        (f"local-dir:{tmp_path / 'none'}", "is no config, no recipe, and no model"),
    ):
        found = check(name)
        assert (found.exit_code, found.stdout) == (2, ""), name
        assert says in found.stderr, name
    (tmp_path / "open_clip_config.json").write_text('{"model": 1}')
    assert "has no model_cfg" in check(tmp_path).stderr
    [found] = reports("hf-hub:silk/none")
    assert found["get"] == (
        "hf download silk/none --include open_clip_config.json --include open_clip_model.safetensors"
    )
    assert "hf download silk/none" in refused("hf-hub:silk/none")


def test_what_the_zoo_needs_is_told_of_every_tag():
    """What a tag is read from is known without the hub: a repository, and names of files in it."""
    for name, tag in open_clip.list_pretrained():
        weights, *others = OpenClipConfig(model=name, pretrained=tag).models()
        assert weights.repository or weights.url
        assert weights.parts[0].any_of
        assert all(other.pin is None for other in others)  # the setting is of the weights


def test_every_name_of_the_zoo_is_known_or_says_what_it_needs():
    """No name of the zoo gives a traceback: without weights each says its tags, and with a tag what to fetch."""
    for name in open_clip.list_models():
        tags = open_clip.list_pretrained_tags_by_model(name)
        assert "needs pretrained" in refused(name)
        if tags:
            said = refused(name, pretrained=tags[0])
            assert "hf download" in said or "fetch http" in said


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model_cfg": {"embed_dim": "24"}}, "open_clip cannot load it: TypeError"),
        ({"model_cfg": {"vision_cfg": []}}, "open_clip cannot load it: AttributeError"),
        ({"model_cfg": {"vision_cfg": {**VIT, "patch_size": 0}}}, "open_clip cannot load it: ZeroDivisionError"),
        ({"model_cfg": {"vision_cfg": {**VIT, "layers": [1, 2]}}}, "open_clip cannot load it: IndexError"),
        ({"model_cfg": {"text_cfg": None}}, "open_clip cannot load it: TypeError"),
        ({"preprocess_cfg": {"resize_mode": "nonsense"}}, "cannot be used: AssertionError"),
        ({"preprocess_cfg": {"mean": ["a"] * 3}}, "cannot be used: too many dimensions 'str'"),
        ({"preprocess_cfg": {"std": [0, 0, 0]}}, "cannot be used: std evaluated to zero"),
    ],
)
def test_settings_of_other_types_are_one_line(folders, tmp_path, settings, says):
    folder = shutil.copytree(folders["vit-squash"], tmp_path / "odd")
    whole = json.loads((folder / "open_clip_config.json").read_text())
    for section, part in settings.items():
        whole[section] |= part
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    assert says in refused(folder)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [({"vocab_size": 100}, "it is another model's tokenizer"), ({"context_length": 2}, "context_length is 2")],
)
def test_texts_that_do_not_go_into_the_model(tmp_path, sizes, says):
    settings = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": {**TEXT, **sizes}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": {}}))
    torch.save(open_clip.model.CLIP(**settings).state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    assert says in refused(tmp_path)


def test_weights_beside_a_folder_s_own_are_not_passed_over(folders, tmp_path):
    """They were: a model that someone had trained on was searched with the weights before that."""
    file = folders["vit"] / "open_clip_pytorch_model.bin"
    for model in (f"local-dir:{folders['vit']}", "hf-hub:org/name", "org/name"):
        with pytest.raises(ConfigError, match="is read with its own weights"):
            Case("encoder", "open_clip", {"model": model, "pretrained": str(file)}).build()
    config = {"version": 1, "name": "x", "similarity": {"name": "global"}}
    config["encoder"] = {"name": "open_clip", "model": str(folders["vit"]), "pretrained": str(file)}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(cli, ["config", "check", str(tmp_path / "c.yaml")])
    assert (result.exit_code, "name a model of the zoo beside" in result.stderr) == (2, True)


def test_a_mean_for_all_channels_has_no_recipe_of_three(folders, tmp_path):
    folder = shutil.copytree(folders["vit-squash"], tmp_path / "grey")
    whole = json.loads((folder / "open_clip_config.json").read_text())
    whole["preprocess_cfg"]["mean"] = [0.5]
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    assert build(folder).pixel_recipe() is None
    assert build(folders["vit-squash"]).pixel_recipe() is not None

"""What a plan knows, and what it refuses, before a model is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from heritage_align_plugins.cn_clip import heritage_align_components
from heritage_align_plugins.cn_clip.architecture import MOTIF_SMALL_FILE, architecture_from_dict
from heritage_align_plugins.cn_clip.config import CnClipConfig
from pydantic import ValidationError

from heritage_align.errors import CheckpointError

TINY = {
    "embed_dim": 8,
    "image_resolution": 32,
    "vision_layers": 2,
    "vision_width": 64,
    "vision_patch_size": 16,
}


def test_a_published_size_needs_weights_and_says_which():
    with pytest.raises(ValidationError, match=r"ViT-L-14 needs weights.*'random'"):
        CnClipConfig(model="ViT-L-14")


def test_an_unknown_model_gets_a_suggestion():
    with pytest.raises(ValidationError, match=r"no 'ViT-B16'\. Did you mean 'ViT-B-16'"):
        CnClipConfig(model="ViT-B16")


def test_facts_of_a_published_size_without_loading_it(tmp_path):
    facts = CnClipConfig(model="ViT-H-14", checkpoint=str(tmp_path / "none.pt")).facts()
    assert facts.dim == 1024
    assert facts.outputs == ("global", "texts", "patches")
    assert facts.files == {"checkpoint": tmp_path / "none.pt"}


def test_a_resnet_gives_no_patches():
    facts = CnClipConfig(model="RN50", checkpoint="random").facts()
    assert facts.outputs == ("global", "texts")
    assert facts.files == {}


def test_the_default_is_the_shipped_model():
    assert CnClipConfig().facts().files == {"model": MOTIF_SMALL_FILE}


def test_a_safetensors_model_says_its_own_dimensions(vit_file):
    facts = CnClipConfig(model=str(vit_file)).facts()
    assert facts.dim == 24
    assert facts.files == {"model": vit_file}


def test_a_custom_architecture_is_named_after_its_file(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(TINY))
    config = CnClipConfig(model=str(tmp_path / "mine.json"), checkpoint="random")
    assert config.facts().dim == 8
    assert config.architecture().name == "mine"
    with pytest.raises(ValidationError, match="needs weights"):
        CnClipConfig(model=str(tmp_path / "mine.json"))


def test_a_missing_model_file_is_left_to_the_plan(tmp_path):
    facts = CnClipConfig(model=str(tmp_path / "none.json"), checkpoint="random").facts()
    assert facts.files == {"model": tmp_path / "none.json"}
    assert facts.dim is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 3}, "unknown depth"),
        ({"embed_dim": None}, "embed_dim: expected a positive whole number, got None"),
        ({"vision_layers": [1, 2]}, "vision_layers"),
        ({"vision_width": 0}, "vision_width"),
        ({"image_resolution": 40}, "image_resolution: expected a multiple of 16"),
        ({"vision_width": 72}, "vision_head_width does not divide vision_width"),
        ({"text_num_attention_heads": 7}, "text_num_attention_heads does not divide text_hidden_size"),
        ({"vision_layers": 10**6}, "vision_layers: expected a positive whole number of at most 1024, got 1000000"),
        ({"vision_layers": [1, 1, 1, 10**6], "vision_patch_size": None}, "vision_layers"),
        ({"text_num_hidden_layers": 10**6}, "text_num_hidden_layers"),
        ({"vocab_size": 21127}, "vocab_size: expected 21128 or more, which cn_clip's tokenizer has, got 21127"),
        ({"context_length": 2}, "context_length: expected 3 or more"),
        ({"text_hidden_act": "tanh"}, r"text_hidden_act: expected one of gelu, .*, got 'tanh'"),
    ],
)
def test_a_wrong_architecture_names_the_setting(change, message):
    with pytest.raises(CheckpointError, match=message):
        architecture_from_dict({"name": "x", **TINY, **change}, "x.json")


@pytest.mark.parametrize("text", ["{", "[1]", '{"embed_dim": 3}'])
def test_an_invalid_architecture_file_is_named(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"bad\.json"):
        CnClipConfig(model=str(tmp_path / "bad.json"), checkpoint="random").facts()


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, (2).to_bytes(8, "little") + b"[]"])
def test_a_file_that_is_no_safetensors_is_named(tmp_path, content):
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.safetensors: cannot read"):
        CnClipConfig(model=str(tmp_path / "bad.safetensors")).facts()


def test_describing_and_planning_import_nothing_heavy():
    assert heritage_align_components()[0].name == "cn_clip"
    code = (
        "import sys; from heritage_align_plugins.cn_clip.config import CnClipConfig; "
        "CnClipConfig(model='RN50', checkpoint='random').facts(); "
        "print([m for m in ('torch', 'cn_clip', 'numpy') if m in sys.modules])"
    )
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=paths)
    assert found.stdout.strip() == "[]", found.stderr


def test_boxes_are_pooled_out_of_patches_alone():
    assert CnClipConfig(regions="roi").facts().outputs == ("global", "texts", "patches", "boxes")
    with pytest.raises(ValueError, match="regions: roi pools patch features, and RN50, a ResNet, has none"):
        CnClipConfig(model="RN50", checkpoint="random", regions="roi").facts()


def test_files_in_the_home_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    config = CnClipConfig(model="~/tiny.json", checkpoint="~/tiny.pt")
    assert config.facts().files == {"model": tmp_path / "tiny.json", "checkpoint": tmp_path / "tiny.pt"}
    assert config.architecture().name == "tiny"

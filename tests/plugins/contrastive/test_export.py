"""What is written is read by our loader and by cn_clip's own, with the same features."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cn_clip.clip import load_from_name
from cn_clip.clip import utils as cn_clip_utils
from cn_clip.clip.model import CLIP
from heritage_align_plugins.cn_clip.checkpoint import load_checkpoint
from heritage_align_plugins.cn_clip.config import CnClipConfig
from heritage_align_plugins.cn_clip.encoder import CnClipEncoder
from torch.nn.functional import normalize

from heritage_align.config import load_config
from heritage_align.protocols import BuildContext

TEXTS = ["红地云纹锦", "蓝", "peony"]


@pytest.fixture
def load(tiny, tmp_path, monkeypatch):
    """Return cn_clip's ``load_from_name`` with the tiny model among the architectures that it knows."""
    folder = tmp_path / "cn_clip" / "model_configs"
    folder.mkdir(parents=True)
    settings = tiny.VIT.asdict()
    del settings["name"], settings["context_length"]
    for name, text in (("tiny-vision", False), ("tiny-text", True)):
        part = {k: v for k, v in settings.items() if (k.startswith("text_") or k == "vocab_size") == text}
        (folder / f"{name}.json").write_text(json.dumps(part))
    # The library looks for architectures beside its own source file.
    monkeypatch.setattr(cn_clip_utils, "__file__", str(tmp_path / "cn_clip" / "utils.py"))

    def from_file(path: Path) -> CLIP:
        names = {"vision_model_name": "tiny-vision", "text_model_name": "tiny-text", "input_resolution": 32}
        clip, _ = load_from_name(str(path), device="cpu", **names)
        return clip.eval()

    return from_file


def difference(ours: CnClipEncoder, theirs: CLIP) -> float:
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = cn_clip_utils.tokenize(TEXTS, context_length=12)
    with torch.no_grad():
        images, texts = normalize(theirs.encode_image(pixels), dim=-1), normalize(theirs.encode_text(tokens), dim=-1)
    pairs = ((ours.encode_pixels(pixels).global_features, images), (ours.encode_texts(TEXTS), texts))
    return max((one - other).abs().max().item() for one, other in pairs)


def test_both_loaders_give_the_same_features(tiny, exact_model, load, tmp_path):
    outcome = tiny.train(tmp_path / "run", exact_model, {"epochs": 1})
    settings = load_config(outcome.document).encoder.settings
    assert isinstance(settings, CnClipConfig)
    assert settings.model == str(tmp_path / "run" / "model.safetensors")
    theirs = load(outcome.files["cn_clip model"])
    assert difference(CnClipEncoder(settings, BuildContext()), theirs) < 2e-6
    from_pt = CnClipConfig(model=settings.model, checkpoint=str(outcome.files["cn_clip model"]))
    assert difference(CnClipEncoder(from_pt, BuildContext()), theirs) < 2e-6
    untrained = CnClipEncoder(CnClipConfig(model=str(exact_model)), BuildContext())
    assert difference(untrained, theirs) > 1e-2


def test_fp32_is_what_was_trained_to_the_bit_and_cn_clip_rounds_it(tiny, exact_model, load, tmp_path):
    outcome = tiny.train(tmp_path / "run", exact_model, {"epochs": 1, "export_dtype": "fp32"})
    exported, _ = load_checkpoint(outcome.files["model"])
    trained = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["model"]
    assert all(torch.equal(value, trained[name]) for name, value in exported.state_dict().items())
    config = CnClipConfig(model=str(outcome.files["model"]))
    assert 1e-6 < difference(CnClipEncoder(config, BuildContext()), load(outcome.files["cn_clip model"])) < 5e-3


def test_another_input_size_and_context_length_go_into_the_file(tiny, model, tmp_path):
    encoder = {"name": "cn_clip", "model": str(model), "image_size": 48, "context_length": 8}
    outcome = tiny.train(tmp_path, model, {"epochs": 1}, encoder=encoder)
    exported, architecture = load_checkpoint(outcome.files["model"])
    assert (architecture.image_resolution, architecture.context_length) == (48, 8)
    assert exported.visual.positional_embedding.shape == (10, 32)
    reloaded = load_config(outcome.document).encoder.settings
    assert isinstance(reloaded, CnClipConfig)
    assert (reloaded.image_size, reloaded.context_length) == (None, None)


def test_the_file_of_cn_clip_is_that_of_its_training(tiny, model, tmp_path):
    outcome = tiny.train(tmp_path, model, {"epochs": 2})
    record = torch.load(outcome.files["cn_clip model"], weights_only=True)
    assert (record["epoch"], record["name"]) == (2, "tiny")
    assert set(record) == {"epoch", "step", "name", "state_dict"}
    assert all(name.startswith("module.") for name in record["state_dict"])
    assert {value.dtype for value in record["state_dict"].values()} == {torch.float16}

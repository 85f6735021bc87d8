"""The forms in which Chinese-CLIP weights are published and saved, and what is refused."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from cn_clip.clip import model as cn_clip_model
from cn_clip.clip.model import convert_weights
from heritage_align_plugins.cn_clip.architecture import (
    FORMAT,
    OFFICIAL,
    architecture_from_dict,
    build_model,
    find_architecture,
    read_embedded,
)
from heritage_align_plugins.cn_clip.checkpoint import load_checkpoint, resize_positions, save_checkpoint
from safetensors.torch import save_file

from heritage_align.errors import CheckpointError


def assert_same(loaded: torch.nn.Module, original: torch.nn.Module) -> None:
    state = loaded.state_dict()
    assert list(state) == list(original.state_dict())
    for key, value in original.state_dict().items():
        torch.testing.assert_close(state[key], value, msg=key)
    assert not loaded.training


def training_file(model: torch.nn.Module, path: Path) -> Path:
    """Save as cn_clip's training does (main.py), the optimizer with a state."""
    trained = [p.detach().clone().requires_grad_() for p in model.parameters()]
    optimizer = torch.optim.AdamW(trained)
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = OrderedDict((f"module.{k}", v) for k, v in model.state_dict().items())
    state["module.bert.pooler.dense.weight"] = torch.zeros(2, 2)
    record = {"epoch": 3, "step": 70, "name": "run", "state_dict": state, "optimizer": optimizer.state_dict()}
    torch.save(record, path)
    return path


def test_a_checkpoint_of_the_training(vit_model, tiny_vit, tmp_path):
    loaded, _ = load_checkpoint(training_file(vit_model, tmp_path / "epoch3.pt"), tiny_vit)
    assert_same(loaded, vit_model)


def test_a_published_checkpoint_is_fp16_and_loads_as_fp32(vit_model, tiny_vit, tmp_path):
    published = build_model(tiny_vit)
    published.load_state_dict(vit_model.state_dict())
    convert_weights(published)
    assert published.visual.conv1.weight.dtype == torch.float16
    torch.save({"state_dict": published.state_dict()}, tmp_path / "clip_cn.pt")
    loaded, _ = load_checkpoint(tmp_path / "clip_cn.pt", tiny_vit)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.visual.conv1.weight, published.visual.conv1.weight.float())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_bare_state_dict_in_both_torch_formats(vit_model, tiny_vit, tmp_path, zipped):
    torch.save(vit_model.state_dict(), tmp_path / "bare.pt", _use_new_zipfile_serialization=zipped)
    loaded, _ = load_checkpoint(tmp_path / "bare.pt", tiny_vit)
    assert_same(loaded, vit_model)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_flash_attention_names_are_undone(vit_model, tiny_vit, tmp_path, prefix):
    if not hasattr(cn_clip_model, "convert_state_dict"):
        pytest.skip("cn_clip 1.5.1 has no flash attention")
    flash = cn_clip_model.convert_state_dict({prefix + k: v for k, v in vit_model.state_dict().items()})
    assert any("Wqkv" in key for key in flash)
    torch.save({"state_dict": flash}, tmp_path / "flash.pt")
    loaded, _ = load_checkpoint(tmp_path / "flash.pt", tiny_vit)
    assert_same(loaded, vit_model)


def test_our_safetensors_hold_their_architecture(resnet_model, tiny_resnet, resnet_file):
    loaded, architecture = load_checkpoint(resnet_file)
    assert architecture == read_embedded(resnet_file) == tiny_resnet
    assert_same(loaded, resnet_model)


def test_safetensors_without_an_architecture_need_one(vit_model, tiny_vit, tmp_path):
    file = tmp_path / "foreign.safetensors"
    save_file(vit_model.state_dict(), file)
    with pytest.raises(CheckpointError, match="holds no architecture"):
        load_checkpoint(file)
    assert_same(load_checkpoint(file, tiny_vit)[0], vit_model)


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self.target),)  # type: ignore[return-value]

    def __init__(self, target: Path) -> None:
        self.target = str(target)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, tiny_vit):
    target = tmp_path / "ran"
    torch.save({"state_dict": {}, "extra": Attack(target)}, tmp_path / "attack.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Attack(target), protocol=2))
    for name in ("attack.pt", "bare.pt"):
        with pytest.raises(CheckpointError, match=f"{name}: refused"):
            load_checkpoint(tmp_path / name, tiny_vit)
    assert not target.exists()


def test_a_checkpoint_of_another_size_names_the_first_mismatches(vit_model, tmp_path):
    torch.save({"state_dict": vit_model.state_dict()}, tmp_path / "tiny.pt")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "tiny.pt", OFFICIAL["ViT-B-16"])
    message = str(caught.value)
    assert "not of ViT-B-16" in message
    assert "visual.transformer.resblocks.3.attn.in_proj_weight" in message
    assert "visual.class_embedding is (48,), not (768,)" in message
    assert len(message) < 1000


def test_unexpected_tensors_are_named(vit_model, tiny_vit, tmp_path):
    torch.save({**vit_model.state_dict(), "decoder.weight": torch.ones(1)}, tmp_path / "more.pt")
    with pytest.raises(CheckpointError, match=r"1 unexpected \(decoder.weight\)"):
        load_checkpoint(tmp_path / "more.pt", tiny_vit)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "found list"),
        ({"epoch": 1}, r"found keys \['epoch'\]"),
        ({}, r"found keys \[\]"),
        (torch.ones(2), "found Tensor"),
    ],
)
def test_a_file_without_a_state_dict_says_what_it_holds(tmp_path, tiny_vit, content, message):
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "odd.pt", tiny_vit)


@pytest.mark.parametrize("name", ["cut.pt", "cut.safetensors"])
def test_a_damaged_file_is_named(vit_model, vit_file, tiny_vit, tmp_path, name):
    torch.save(vit_model.state_dict(), tmp_path / "whole.pt")
    whole = (vit_file if name.endswith("safetensors") else tmp_path / "whole.pt").read_bytes()
    for length in (0, 5, len(whole) // 2):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path / name, tiny_vit)


def test_a_missing_file_is_named(tmp_path, tiny_vit):
    with pytest.raises(CheckpointError, match=r"none\.pt: there is no such"):
        load_checkpoint(tmp_path / "none.pt", tiny_vit)


def test_a_model_that_does_not_fit_or_overflows_is_not_saved(vit_model, tiny_vit, tiny_resnet, tmp_path):
    with pytest.raises(CheckpointError, match="not of tiny-resnet"):
        save_checkpoint(vit_model, tiny_resnet, tmp_path / "x.safetensors")
    large = build_model(tiny_vit)
    large.text_projection.data.fill_(1e6)
    with pytest.raises(CheckpointError, match="text_projection has values that are not finite"):
        save_checkpoint(large, tiny_vit, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_a_linear_ramp_of_positions_stays_one():
    ramp = torch.linspace(0, 6, 3)[:, None].expand(3, 3).reshape(9, 1)
    resized = resize_positions(torch.cat([torch.tensor([[9.0]]), ramp]), 5)
    assert resized[0] == 9.0
    rows = resized[1:].reshape(5, 5)
    torch.testing.assert_close(rows[[0, 2, 4], 0], torch.tensor([0.0, 3.0, 6.0]))  # corners aligned
    torch.testing.assert_close(rows[:, 0], rows[:, 4])


@pytest.mark.parametrize("name", list(OFFICIAL))
def test_published_sizes_are_those_of_cn_clip(name):
    import cn_clip.clip
    from cn_clip.clip.utils import _MODEL_INFO

    folder = Path(cn_clip.clip.__file__).parent / "model_configs"
    vision, text = _MODEL_INFO[name]["struct"].split("@")
    published = json.loads((folder / f"{vision}.json").read_text())
    published.update(json.loads((folder / f"{text}.json").read_text()))
    if isinstance(published["vision_layers"], str):
        published["vision_layers"] = tuple(json.loads(published["vision_layers"]))
    ours = OFFICIAL[name].asdict()
    assert {k: ours[k] for k in published} == published
    assert ours["vision_head_width"] == published.get("vision_head_width", 64)
    assert ours["context_length"] == 52


def test_architecture_round_trip(tiny_vit):
    assert architecture_from_dict(json.loads(json.dumps(tiny_vit.asdict())), "x") == tiny_vit


def test_equal_weights_are_equal_files(vit_model, tiny_vit, tmp_path):
    written = set()
    for number in range(8):
        path = tmp_path / f"{number}.safetensors"
        save_checkpoint(vit_model, tiny_vit, path)
        written.add(path.read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["text_model.encoder.layer.0.x", "vision_model.post_layernorm.weight"], "take encoder {name: transformers"),
        (["visual.transformer.resblocks.0.x", "token_embedding.weight"], "those of OpenAI's CLIP or open_clip"),
        (["base_model.model.visual.x.lora_A.weight"], "a LoRA adapter: merge it into its model first"),
        (["bert.encoder.layer.0.attention.self.query.weight"], "a BERT alone: take text_encoder {name: bert"),
    ],
)
def test_weights_of_another_library_say_which_encoder_takes_them(tiny_vit, tmp_path, names, said):
    torch.save({"state_dict": {name: torch.ones(1) for name in names}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "other.pt", tiny_vit)
    assert "the weights are not of" in str(caught.value)
    assert said in str(caught.value)


def test_a_weight_that_is_not_a_number_is_named(vit_model, tiny_vit, tmp_path):
    state = {f"_orig_mod.module.{k}": v.clone() for k, v in vit_model.state_dict().items()}
    state["_orig_mod.module.visual.proj"][0, 0] = float("nan")
    torch.save({"model": state}, tmp_path / "nan.pt")
    with pytest.raises(CheckpointError, match=r"nan\.pt: visual\.proj holds 1 of \d+ numbers that are NaN"):
        load_checkpoint(tmp_path / "nan.pt", tiny_vit)


@pytest.mark.parametrize(
    "architecture",
    [
        *("", "3", "[", "[" * 5000, None, '{"name": 3}', '{"text_hidden_act": []}', '{"text_hidden_act": "none"}'),
        *('{"vision_width": 1e999}', '{"embed_dim": ' + "9" * 400 + "}", '{"text_hidden_dropout_prob": "0.1"}'),
        *('{"text_initializer_range": NaN}', '{"embed_dim": ' + "[" * 400 + "]" * 400 + "}"),
    ],
)
def test_an_architecture_of_other_types_is_refused(tmp_path, tiny_vit, architecture):
    if architecture is not None and architecture.startswith("{"):
        whole = json.dumps(tiny_vit.asdict())
        architecture = whole[:-1] + ", " + architecture[1:]  # the last of equal keys counts
    metadata = {"format": FORMAT, "architecture": architecture}
    header = json.dumps({"__metadata__": metadata}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=r"x\.safetensors: "):
        read_embedded(tmp_path / "x.safetensors")


@pytest.mark.parametrize("header", [b"[]", b"[" * 5000, b'{"__metadata__": 3}', b'{"__metadata__": {"format": [3]}}'])
def test_a_header_of_other_types_is_refused(tmp_path, header):
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=r"x\.safetensors: "):
        read_embedded(tmp_path / "x.safetensors")
    (tmp_path / "x.json").write_bytes(header)
    with pytest.raises(CheckpointError, match=r"x\.json: "):
        find_architecture(str(tmp_path / "x.json"))

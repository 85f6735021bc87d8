"""The encoder that a run leaves: the conformance kit, on pictures and on features, and files at fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from heritage_align_plugins.cl2cm.description import read_description
from safetensors.torch import load_file, save_file

from heritage_align.errors import CheckpointError, DataError
from heritage_align.testing import Case, check_component
from heritage_align.training.job import TrainingOutcome


@pytest.fixture(scope="module")
def settings(trained: TrainingOutcome) -> dict[str, Any]:
    return {key: value for key, value in trained.document["encoder"].items() if key != "name"}


def test_the_kit_with_pictures(settings: dict[str, Any]) -> None:
    skipped = {r.check for r in check_component(Case("encoder", "cl2cm", settings)) if r.state == "skipped"}
    assert skipped == {"check_features_of_another_width_are_refused", "check_pooled_boxes"}


def test_the_kit_with_features(settings: dict[str, Any]) -> None:
    on_features = Case("encoder", "cl2cm", {"checkpoint": settings["checkpoint"]}, feature_dim=16)
    skipped = {r.check for r in check_component(on_features) if r.state == "skipped"}
    assert skipped == {
        "check_nested_places",
        "check_patches",
        "check_pooled_boxes",
        "check_prepare_is_thread_safe",
        "check_prepare_takes_any_picture",
        "check_recipe_is_what_prepare_does",
    }


def test_texts_without_pictures_below(settings: dict[str, Any]) -> None:
    encoder = Case("encoder", "cl2cm", {"checkpoint": settings["checkpoint"]}).build()
    whole = Case("encoder", "cl2cm", settings).build()
    assert torch.equal(encoder.encode_texts(["two cranes"]), whole.encode_texts(["two cranes"]))
    rows = torch.randn(3, 16) * 7
    projected = encoder.encode_features(rows)
    assert torch.allclose(projected.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(projected, encoder.encode_features(rows * 5), atol=1e-6)  # only directions count
    with pytest.raises(DataError, match="features have 4 dimensions, the model was trained on 16"):
        encoder.encode_features(torch.ones(1, 4))
    with pytest.raises(DataError, match="name the encoder of pictures as base"):
        encoder.encode_pixels(torch.zeros(1, 3, 32, 32))
    assert encoder.fingerprint() == whole.fingerprint().split("+")[0]


def test_a_blank_text_and_patches_are_refused(settings: dict[str, Any]) -> None:
    encoder = Case("encoder", "cl2cm", settings).build()
    with pytest.raises(ValueError, match=r"texts\[1\]"):
        encoder.encode_texts(["a", " "])
    with pytest.raises(ValueError, match="patches"):
        encoder.encode_pixels(torch.zeros(1, 3, 32, 32), patches=True)


def test_the_width_below_must_fit(settings: dict[str, Any]) -> None:
    other = {"name": "cn_clip", "model": "motif-small"}
    with pytest.raises(DataError, match="base: its vectors have 128 dimensions, the model was trained on 16"):
        Case("encoder", "cl2cm", {**settings, "base": other}).build()


def test_files_at_fault(settings: dict[str, Any], tmp_path: Path) -> None:
    description = read_description(Path(settings["checkpoint"]))
    tensors = load_file(settings["checkpoint"])
    foreign, short, torn = (tmp_path / f"{name}.safetensors" for name in ("foreign", "short", "torn"))
    save_file(tensors, foreign)
    save_file({"projection.bias": tensors["projection.bias"]}, short, description.metadata())
    torn.write_bytes(b"no safetensors")
    (endless, deep), (key,) = (tmp_path / "endless.safetensors", tmp_path / "deep.safetensors"), description.metadata()
    save_file(tensors, endless, {key: '{"dim": 1e999}'})
    save_file(tensors, deep, {key: "[" * 5000})
    for file, message in (
        (endless, "cannot be read as a cl2cm model: cannot convert float infinity"),
        (deep, "cannot be read as a cl2cm model: maximum recursion"),
        (foreign, "is not a cl2cm model"),
        (short, "tensors do not fit"),
        (torn, "cannot be read as a cl2cm model"),
    ):
        with pytest.raises(CheckpointError, match=message):
            Case("encoder", "cl2cm", {"checkpoint": str(file)}).build()

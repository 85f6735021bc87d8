"""A trained model as a file: there and back, and every way in which it may not fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from heritage_align_plugins.alignment.checkpoint import load_model, save_model
from heritage_align_plugins.alignment.description import FORMAT, read_description
from heritage_align_plugins.alignment.model import AlignmentModel
from heritage_align_plugins.alignment.settings import ModelSettings
from heritage_align_plugins.alignment.text.tokens import Vocabulary
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from heritage_align.errors import CheckpointError, HeritageAlignError

TEXTS = ["a red lotus", "蓝地缠枝莲纹", "two cranes"]


class Known:
    """A pretrained text encoder."""

    def __init__(self, dim: int = 4) -> None:
        self.dim = dim

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[float(len(text))] * self.dim for text in texts])


def made(*parts: Any, base: Any = None) -> AlignmentModel:
    torch.manual_seed(0)
    model = AlignmentModel(ModelSettings(dim=6, embedding_dim=5, text=parts), 7, Vocabulary.of(TEXTS, 1, 1), base)
    model.image.fit_scale(torch.randn(9, 7))
    return model.eval()


@pytest.mark.parametrize("parts", [("bigru",), ("bag",), ("bigru", "bag"), ("frozen", "bag")])
def test_there_and_back(tmp_path: Path, parts: tuple[str, ...]) -> None:
    base: Any = Known() if "frozen" in parts else None
    model, path = made(*parts, base=base), tmp_path / "model.safetensors"
    save_model(model, path, features=True)
    again, sha256 = load_model(path, base)
    texts, rows = [*TEXTS, "an unknown dragon"], torch.randn(5, 7)
    with torch.no_grad():
        assert torch.equal(again.encode_texts(texts), model.encode_texts(texts))
        assert torch.equal(again.encode_images(rows), model.encode_images(rows))
    assert not again.training
    first = path.read_bytes()
    save_model(again, path, features=True)
    assert path.read_bytes() == first, "equal models are equal files"
    assert load_model(path, base)[1] == sha256
    described = read_description(path)
    assert (described.settings, described.feature_dim, described.features) == (model.settings, 7, True)


def test_a_model_on_a_pretrained_encoder_needs_it(tmp_path: Path) -> None:
    base: Any = Known()
    path = tmp_path / "model.safetensors"
    save_model(made("frozen", base=base), path, features=False)
    with pytest.raises(CheckpointError, match="was trained on a pretrained text encoder; name it as text_base"):
        load_model(path)
    with pytest.raises(CheckpointError, match="its tensors do not fit the model that it describes") as caught:
        load_model(path, Known(9))  # type: ignore[arg-type]
    assert "projection.weight" in str(caught.value)


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "settings"])
def test_tensors_that_do_not_fit_what_is_described(tmp_path: Path, change: str) -> None:
    path = tmp_path / "model.safetensors"
    save_model(made("bag"), path, features=True)
    tensors, document = load_file(path), json.loads(metadata(path)[FORMAT])
    if change == "missing":
        del tensors["text.bag.bias"]
    elif change == "extra":
        tensors["text.bag.more"] = torch.zeros(1)
    elif change == "shape":
        tensors["image.projection.weight"] = torch.zeros(6, 8)
    else:
        document["settings"]["dim"] = 5
    save_file(tensors, path, {FORMAT: json.dumps(document)})
    with pytest.raises(CheckpointError, match="its tensors do not fit the model that it describes") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_of_another_precision_are_those_of_fp32(tmp_path: Path, kind: torch.dtype) -> None:
    """Kept as fp16 to save room, under the beginning that DataParallel puts before names."""
    path = tmp_path / "model.safetensors"
    save_model(made("bag"), path, features=True)
    tensors, described = load_file(path), metadata(path)
    kept = {f"module.{k}": v.to(kind) if v.is_floating_point() else v for k, v in tensors.items()}
    save_file(kept, path, described)
    model, _ = load_model(path)
    for name, value in model.state_dict().items():
        assert value.dtype == tensors[name].dtype
        assert torch.allclose(value.float(), tensors[name].float(), atol=1e-2)
    save_file({k: v.to(torch.int8) if v.is_floating_point() else v for k, v in tensors.items()}, path, described)
    with pytest.raises(CheckpointError, match="holds int8 numbers, the model floating ones"):
        load_model(path)


def metadata(path: Path) -> dict[str, str]:
    header: dict[str, Any] = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    found: dict[str, str] = header["__metadata__"]
    return found


@pytest.mark.parametrize(
    "given_metadata",
    [
        {},
        {"format": "pt"},
        {FORMAT: "{"},
        {FORMAT: "[]"},
        {FORMAT: "3"},
        {FORMAT: "{}"},
        {FORMAT: json.dumps({"settings": {"dim": 0}, "feature_dim": 1, "features": True})},
        {FORMAT: json.dumps({"settings": {}, "feature_dim": None, "features": 1, "vocabulary": {}})},
        {FORMAT: '{"settings": {}, "feature_dim": 1e999, "features": 1, "vocabulary": {}}'},
        {FORMAT: '{"settings": {}, "feature_dim": 3, "features": 1, "vocabulary": 5}'},
        {FORMAT: "[" * 5000},
    ],
)
def test_files_of_something_else(tmp_path: Path, given_metadata: dict[str, str]) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path, given_metadata)
    with pytest.raises(CheckpointError, match=r"other\.safetensors: (is not|cannot be read as) an alignment model"):
        read_description(path)


@pytest.mark.parametrize("vocabulary", [{}, [], {"tokens": 3, "idf": [], "singles": 1}, {"tokens": ["a"]}])
def test_a_vocabulary_at_fault(tmp_path: Path, vocabulary: Any) -> None:
    path = tmp_path / "model.safetensors"
    save_model(made("bag"), path, features=True)
    document = {**json.loads(metadata(path)[FORMAT]), "vocabulary": vocabulary}
    save_file(load_file(path), path, {FORMAT: json.dumps(document)})
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_model(path)


@pytest.mark.parametrize("content", [b"", b"12345678", b"PK\x03\x04", b"\xff" * 40])
def test_no_safetensors_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: (cannot be read|is empty|is cut off)"):
        load_model(tmp_path / "model.safetensors")


@settings(
    max_examples=80,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_file_that_was_scribbled_on(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "model.safetensors"
    save_model(made("bigru", "bag"), path, features=True)
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        load_model(path)
    except HeritageAlignError as error:
        message = str(error)
        if not message.startswith(str(path)):
            raise

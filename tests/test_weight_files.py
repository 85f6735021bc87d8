"""What files of weights say of themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from heritage_align.errors import CheckpointError
from heritage_align.weight_files import indexed_files, leads_outside, read_metadata

KEY = "heritage_align/loom/1"


def loom(document: dict[str, Any]) -> tuple[int, str]:
    return int(document["threads"]), document["pattern"]


def write(path: Path, **metadata: str) -> Path:
    save_file({"weight": torch.ones(2)}, path, metadata=metadata)
    return path


def test_the_document_under_a_key_is_parsed(tmp_path: Path) -> None:
    file = write(tmp_path / "loom.safetensors", **{KEY: json.dumps({"threads": 3, "pattern": "鹤"}), "format": "pt"})
    assert read_metadata(file, KEY, "a loom", loom) == (3, "鹤")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"loom\.safetensors: is not a loom \(its metadata have no 'heritage_align/loom/1'\)"),
        ("{", r"loom\.safetensors: cannot be read as a loom: "),
        ("[]", r"loom\.safetensors: cannot be read as a loom: list indices"),
        ('{"threads": 3}', r"loom\.safetensors: cannot be read as a loom: 'pattern'"),
        ('{"threads": "many", "pattern": ""}', r"loom\.safetensors: cannot be read as a loom: invalid literal"),
    ],
)
def test_another_kind_and_what_cannot_be_parsed_are_told_apart(tmp_path: Path, text: str | None, message: str) -> None:
    file = write(tmp_path / "loom.safetensors", **({} if text is None else {KEY: text}))
    with pytest.raises(CheckpointError, match=message):
        read_metadata(file, KEY, "a loom", loom)


def test_no_file_a_pointer_and_a_cut_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such checkpoint file"):
        read_metadata(tmp_path / "none.safetensors", KEY, "a loom", loom)
    pointer = tmp_path / "pointer.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n")
    with pytest.raises(CheckpointError, match="Git LFS pointer"):
        read_metadata(pointer, KEY, "a loom", loom)
    whole = write(tmp_path / "loom.safetensors", **{KEY: "{}"}).read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[:-5])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors: is cut off: it has \d+ bytes"):
        read_metadata(cut, KEY, "a loom", loom)


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("model-1-of-2.safetensors", False),
        ("parts/1.safetensors", False),
        ("..hidden", False),
        ("", True),
        (".", True),
        ("../model.safetensors", True),
        ("parts/../../model.safetensors", True),
        ("/model.safetensors", True),
        ("C:\\model.safetensors", True),
        ("..\\model.safetensors", True),
    ],
)
def test_a_name_that_leads_out_of_a_folder(name: str, out: bool) -> None:
    assert leads_outside(name) is out


def test_an_index_names_each_file_once(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}))
    assert indexed_files(index) == ["1.safetensors", "2.safetensors"]
    for nonsense in ("[1]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": ["x"]}}'):
        index.write_text(nonsense)
        with pytest.raises(CheckpointError, match=r"index\.json: "):
            indexed_files(index)

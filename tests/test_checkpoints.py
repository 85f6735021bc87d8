"""Weights as people have them: in any wrapper, beside anything, or something else under their name."""

from __future__ import annotations

import argparse
import io
import pickle
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from heritage_align.checkpoints import fitted, read_tensors, refusal, refuse_not_finite
from heritage_align.errors import CheckpointError, Note
from heritage_align.foreign_files import foreign

STATE = {"visual.conv.weight": torch.ones(2, 3), "bert.emb": torch.zeros(4), "logit_scale": torch.tensor(2.0)}
WORDS = ["module", "_orig_mod", "model", "_fsdp_wrapped_module", "net", "clip"]

HOLDERS = ["model", "state_dict", "x"]


def behind(beginning: str, state: dict[str, torch.Tensor] = STATE) -> dict[str, torch.Tensor]:
    return {beginning + name: value for name, value in state.items()}


def read(path: Path, document: Any, expected: Any = STATE) -> dict[str, torch.Tensor]:
    torch.save(document, path)
    return fitted(read_tensors(path), expected, str(path))


@given(
    st.lists(st.sampled_from(WORDS), max_size=4), st.lists(st.sampled_from(["model", "state_dict", "x"]), max_size=3)
)
def test_any_stack_of_wrappers_is_taken_off(words: list[str], holders: list[str]) -> None:
    document: Any = behind("".join(f"{word}." for word in words))
    for holder in holders:
        document = {holder: document, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
    stream = io.BytesIO()
    torch.save(document, stream)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.pt"
        path.write_bytes(stream.getvalue())
        found = fitted(read_tensors(path), STATE, "f")
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], value) for name, value in STATE.items())


@pytest.mark.parametrize(
    "document",
    [
        {"state_dict": {"model": behind("module.")}},
        {"model": {"state_dict": behind("_orig_mod.")}},
        {"visual": {"conv.weight": STATE["visual.conv.weight"]}, "bert": {"emb": STATE["bert.emb"]}, **STATE},
        {"module": STATE, "ds_config": {"train_batch_size": 4}, "ds_version": "0.14"},
        {"state_dict": {**behind("model."), **behind("ema_model.")}, "hyper_parameters": {"lr": 0.1}},
        {"state_dict": behind("model."), "loss": {"weight": torch.ones(1)}},
        {**STATE, "optimizer": {"state": {0: {"step": torch.tensor(1)}}}},
        {"state_dict": {"visual._orig_mod.conv.weight": STATE["visual.conv.weight"], **behind("", STATE)}},
    ],
    ids=lambda document: "+".join(document)[:40],
)
def test_forms_of_training_programs(document: dict[str, Any], tmp_path: Path) -> None:
    if "visual" in document or "_orig_mod" in str(document.get("state_dict", {}).keys()):
        with pytest.raises(CheckpointError, match="holds 'visual.conv.weight' twice"):
            read(tmp_path / "c.pt", document)
        return
    found = read(tmp_path / "c.pt", document)
    assert all(torch.equal(found[name], value) for name, value in STATE.items())
    assert found.keys() == STATE.keys()


def test_a_compiled_part_and_towers_in_dictionaries_of_their_own(tmp_path: Path) -> None:
    part = {"visual._orig_mod.conv.weight": torch.ones(1), "bert.emb": torch.ones(1), "logit_scale": torch.ones(1)}
    assert read(tmp_path / "c.pt", part).keys() == STATE.keys()
    towers = {"visual": {"conv.weight": torch.ones(1)}, "bert": {"emb": torch.ones(1)}, "logit_scale": torch.ones(1)}
    assert read(tmp_path / "c.pt", towers).keys() == STATE.keys()


def test_what_is_too_much_beside_the_model_is_kept_for_the_message(tmp_path: Path) -> None:
    assert "decoder.weight" in read(tmp_path / "c.pt", {**STATE, "decoder.weight": torch.ones(1)})
    assert "decoder.weight" in read(
        tmp_path / "c.pt", {"model": behind("module.", {**STATE, "decoder.weight": torch.ones(1)})}
    )
    other = {"w": torch.ones(1)}
    assert read(tmp_path / "c.pt", other) == other


def test_of_two_models_the_one_is_taken_that_no_name_tells_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"c\.pt: holds 2 models, behind 'student\.', 'teacher\.'"):
        read(tmp_path / "c.pt", {**behind("student."), **behind("teacher.")})


def test_arguments_paths_and_numpy_numbers_beside_the_weights_do_no_harm(tmp_path: Path) -> None:
    beside = {
        "args": argparse.Namespace(lr=0.1, out=Path("x")),
        "best": np.float64(0.5),
        "curve": np.array([1.0, 2.0]),
        "names": np.array(["a"]),
        "scheduler": {"last": np.int64(3)},
    }
    assert read(tmp_path / "c.pt", {"model": STATE, **beside}).keys() == STATE.keys()


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_no_code_is_run_and_no_message_says_how_to(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("new.pt", "old.pt", "bare.pt", "script.pt", "object.pt")}
    torch.save({"model": STATE, "x": Evil(tmp_path / "ran")}, files["new.pt"])
    torch.save({"x": Evil(tmp_path / "ran")}, files["old.pt"], _use_new_zipfile_serialization=False)
    files["bare.pt"].write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    torch.jit.script(nn.Linear(2, 2)).save(str(files["script.pt"]))
    torch.save(nn.Linear(2, 2), files["object.pt"])
    for path in files.values():
        with pytest.raises(CheckpointError) as caught:
            read_tensors(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: refused, because it ")
        assert "could run code" in message or "holds code" in message
        for advice in ("weights_only", "safe_globals", "trust", "pickle", "torch.load", "\n"):
            assert advice not in message
    assert not (tmp_path / "ran").exists()
    with pytest.raises(CheckpointError, match=r"holds torch\.nn\.modules\.linear\.Linear, and"):
        read_tensors(files["object.pt"])
    assert "weights_only" not in refusal(RuntimeError("Cannot use `weights_only=True` with that"))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4" * 64 + b"\nsize 718123456\n"
FOREIGN = {
    "pointer": (
        POINTER,
        "is a Git LFS pointer of the file of 684.9 MiB, not the file itself: fetch it with `git lfs pull`",
    ),
    "annex": (b"../../.git/annex/objects/x/y/SHA256E-s1--a.pt", "is a git-annex pointer"),
    "page": (b"\n<!DOCTYPE html>\n<html><title>Google Drive - Quota exceeded</title>", "is a web page"),
    "lower": (b"\xef\xbb\xbf<html lang=en><head>", "is a web page"),
    "noted": (b"<!-- saved -->\n<HTML>", "is a web page"),
    "s3": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page or an error as XML"),
    "hub": (
        '{"error":"Repository 模型 not found"}'.encode(),
        'is the error message of a server, not the file itself: {"er',
    ),
    "empty": (b"", "is empty"),
    "zeros": (bytes(5000), "begins with zeros alone"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_what_a_download_leaves_in_the_place_of_weights_is_named(kind: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{ending}"
    path.write_bytes(FOREIGN[kind][0])
    with pytest.raises(CheckpointError) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"{path}: {FOREIGN[kind][1]}")


def test_real_files_are_not_taken_for_something_else(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    torch.save(STATE, tmp_path / "w.pt")
    torch.save(STATE, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}', encoding="utf-8")
    for path in tmp_path.iterdir():
        assert foreign(path) is None
    assert read_tensors(tmp_path / "old.pt").keys() == STATE.keys()


def test_comments_before_something_else_are_no_riddle(tmp_path: Path) -> None:
    """Of a hundred comments there are 2^99 ways to take several for one: this would not end."""
    (tmp_path / "x").write_bytes(b"<!---->" * 140 + b"x")
    assert foreign(tmp_path / "x") is None
    (tmp_path / "x").write_bytes(b" <!-- a --> <!-- > -->\n<html>")
    assert "is a web page" in str(foreign(tmp_path / "x"))


def test_files_that_are_missing_cut_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pt: there is no such checkpoint file"):
        read_tensors(tmp_path / "gone.pt")
    torch.save(STATE, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"is a folder \(it holds w\.pt\), expected a file of weights"):
        read_tensors(tmp_path)
    whole = (tmp_path / "w.pt").read_bytes()
    for length in (1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "w.pt").write_bytes(whole[:length])
        said = f"is cut off: it has {length} bytes" if length > 3 else "refused"
        with pytest.raises(CheckpointError, match=rf"w\.pt: {said}"):
            read_tensors(tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "z.pt", "w") as archive:
        archive.writestr("a.pt", whole)
    with pytest.raises(CheckpointError, match=r"z\.pt: is a zip archive that torch did not write; .* unpack it"):
        read_tensors(tmp_path / "z.pt")
    save_file(STATE, tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    for length in (20, len(whole) - 1):
        (tmp_path / "w.safetensors").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=f"is cut off: it has {length} bytes and should have"):
            read_tensors(tmp_path / "w.safetensors")
    for content, found in (([1], "list"), ({"epoch": 1}, r"keys \['epoch'\]"), (torch.ones(2), "Tensor")):
        torch.save(content, tmp_path / "c.pt")
        with pytest.raises(CheckpointError, match=f"expected a state dict, or a file that holds one, found {found}"):
            read_tensors(tmp_path / "c.pt")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("w.h5", b"\x89HDF\r\n\x1a\n" + bytes(600), "is a file of HDF5 (Keras, TensorFlow), which is not read"),
        ("w.gguf", b"GGUF\x03" + bytes(600), "is a file of GGUF (llama.cpp), which is not read"),
        ("w.onnx", b"\x08\x07\x12\x07pytorch" + bytes(600), "is a file of ONNX, which is not read"),
        ("w.bin", b"\x93NUMPY\x01\x00" + bytes(600), "is a file of numpy (.npy), which is not read"),
        ("w.pt", b"\x1f\x8b\x08" + bytes(600), "is packed (gzip): unpack it"),
        ("w.pt", b"w.pt".ljust(257, b"\0") + b"ustar" + bytes(600), "is packed (tar): unpack it"),
        ("w.bin", b'{"weight_map": {}}', "is a text, and holds no weights"),
        ("README.md", b"# A model\n", "is a text, and holds no weights"),
    ],
)
def test_weights_of_other_programs_are_named(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path / name}: {said}")):
        read_tensors(tmp_path / name)


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.pt")
    torch.save(STATE, tmp_path / "w.safetensors")
    for path in tmp_path.iterdir():
        assert read_tensors(path).keys() == STATE.keys()


def test_a_hole_in_a_file_is_found_by_its_checksums(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({**STATE, "large": torch.ones(4096)}, path)
    data = path.read_bytes()
    place = data.index(b"\x00\x00\x80\x3f" * 64)  # 64 float32 of 1
    path.write_bytes(data[:place] + bytes(256) + data[place + 256 :])
    with pytest.raises(CheckpointError, match=r"w\.pt: is damaged: w/data/\d+ is not what was written"):
        read_tensors(path)
    torch.serialization.set_crc32_options(False)  # a file without checksums is no damaged one
    try:
        torch.save(STATE, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_tensors(path).keys() == STATE.keys()


@pytest.mark.parametrize(
    ("document", "left"),
    [
        ({"state_dict": STATE, "ema": behind("")}, "'ema.'"),
        ({"model": {**STATE, **behind("ema.")}}, "'model.ema.'"),
    ],
    ids=["beside", "inside"],
)
def test_of_averaged_weights_a_note_says_that_they_are_left(document: Any, left: str, tmp_path: Path) -> None:
    with pytest.warns(Note, match=f"holds 2 models; .* not those behind {left}: to use these, save them alone"):
        found = read(tmp_path / "c.pt", document)
    assert found.keys() == STATE.keys()


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.complex64], ids=str)
def test_numbers_of_another_kind_are_refused(kind: torch.dtype, tmp_path: Path) -> None:
    state = {**STATE, "steps": torch.tensor(3)}
    changed = {**state, "bert.emb": state["bert.emb"].to(kind)}
    name = str(kind).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=f"bert.emb holds {name} numbers, the model floating ones"):
        read(tmp_path / "c.pt", changed, state)
    assert read(tmp_path / "c.pt", {**state, "bert.emb": state["bert.emb"].double()}, state).keys() == state.keys()


def test_weights_that_say_nothing_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"w\.pt: holds zeros alone"):
        refuse_not_finite({"a": torch.zeros(3), "scale": torch.tensor(0.0)}, "w.pt")
    refuse_not_finite({"a": torch.zeros(3), "b": torch.tensor([0.0, 1.0])}, "w.pt")
    refuse_not_finite({"a": torch.ones(4).to(torch.float8_e4m3fn)}, "w.pt")
    with pytest.raises(CheckpointError, match=r"a holds 2 of 2 numbers that are NaN or infinite"):
        refuse_not_finite({"a": torch.full((2,), 1e300, dtype=torch.float64)}, "w.pt")


def test_a_weight_that_is_not_finite_is_named_with_its_number() -> None:
    refuse_not_finite({**STATE, "steps": torch.tensor(3)}, "w.pt")
    broken = torch.ones(4)
    broken[1], broken[3] = float("nan"), float("-inf")
    with pytest.raises(CheckpointError, match=r"w\.pt: b holds 2 of 4 numbers .* NaN or infinite, and 1 tensors more"):
        refuse_not_finite({"a": torch.ones(2), "b": broken, "c": broken.half()}, "w.pt")


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (torch.sparse_coo_tensor([[0], [0]], [1.0], (4, 4), check_invariants=True), "sparse"),
        (torch.ones(3, device="meta"), "without numbers"),
        (torch.quantize_per_tensor(torch.ones(3), 1.0, 0, torch.qint8), "quantised"),
    ],
    ids=["sparse", "meta", "quantised"],
)
def test_tensors_that_are_no_plain_numbers_are_refused(tensor: torch.Tensor, kind: str, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "b": {"c": tensor}}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=rf"w\.pt: tensor 'b/c' is {kind}, expected plain numbers"):
        read_tensors(tmp_path / "w.pt")


def test_one_dictionary_under_more_names_than_can_be_told(tmp_path: Path) -> None:
    """3 KB that are 10^15 names; a run's own dictionaries, few of them shared, are read."""
    nested: dict[str, Any] = {"w": torch.ones(1)}
    for _ in range(15):
        nested = {str(i): nested for i in range(10)}
    torch.save(nested, tmp_path / "bomb.pt")
    with pytest.raises(CheckpointError, match=r"bomb\.pt: holds more than 1000000 names"):
        read_tensors(tmp_path / "bomb.pt")
    torch.save({"model": STATE, "ema": STATE, "history": {"loss": list(range(1000))}}, tmp_path / "run.pt")
    assert len(read_tensors(tmp_path / "run.pt")) == 2 * len(STATE)

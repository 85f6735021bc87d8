"""Whatever stands in last.pt, it is a checkpoint or one clear error."""

from __future__ import annotations

import io
import pickle
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from heritage_align.errors import CheckpointError
from heritage_align.training.state import LAST, load_state


@pytest.fixture(scope="module")
def checkpoint(toy: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    toy.train(folder, epochs=1)
    return folder / LAST


def refused(folder: Path, content: bytes) -> str:
    (folder / LAST).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_state(folder, "toy")
    message = str(caught.value)
    assert message.startswith(str(folder / LAST))
    return message


def saved(document: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(document, stream)
    return stream.getvalue()


def test_what_is_whole_is_read(checkpoint: Path) -> None:
    state = load_state(checkpoint.parent, "toy")
    assert state is not None
    assert (state.epoch, state.updates) == (1, 4)
    assert load_state(checkpoint.parent / "nowhere", "toy") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a checkpoint", b"\x80\x02}q\x00."])
def test_no_checkpoint_at_all(tmp_path: Path, content: bytes) -> None:
    message = refused(tmp_path, content)
    assert "delete it to start afresh" in message or "is not a checkpoint" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "document",
    [[], {}, {"format": 0}, {"format": 1, "identity": "toy"}, {"format": 3, "identity": "toy"}, torch.zeros(3)],
)
def test_something_else_that_torch_wrote(tmp_path: Path, document: Any) -> None:
    assert "is not a checkpoint of a training run (format 2)" in refused(tmp_path, saved(document))


@pytest.mark.parametrize("change", [{"identity": None}, {"epoch": None}, {"epochs": None}, {"epochen": 3}])
def test_fields_that_are_missing_or_unknown(checkpoint: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    document = torch.load(checkpoint, weights_only=True)
    for key, value in change.items():
        if value is None:
            del document[key]
        else:
            document[key] = value
    assert "is not a checkpoint" in refused(tmp_path, saved(document))


def test_no_code_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "run",))

    refused(tmp_path, saved({"format": 2, "identity": Evil()}))
    refused(tmp_path, pickle.dumps({"format": 2, "identity": Evil()}))
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(
    max_examples=50,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_file_that_was_cut_or_scribbled_on(checkpoint: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(checkpoint.read_bytes())
    if data.draw(st.booleans(), label="cut"):
        refused(tmp_path, bytes(content[: data.draw(st.integers(0, len(content) - 1))]))
        return
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / LAST).write_bytes(content)
    with suppress(CheckpointError):  # a byte of padding changes nothing
        load_state(tmp_path, "toy")

"""The start is a checkpoint like any other, and what was held out to choose is trained on in the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from heritage_align.config import load_config

Document = dict[str, Any]
MODEL = {"dim": 8, "embedding_dim": 6, "text": ["bigru", "bag"], "whole": "auto", "regions": "auto"}


@pytest.fixture(scope="module")
def rows(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection without a validation part."""
    folder: Path = small.write_collection(tmp_path_factory.mktemp("rows"))
    table = folder / "table.jsonl"
    table.write_text(table.read_text(encoding="utf-8").replace('"val"', '"train"'), encoding="utf-8")
    return folder


def document(small: Any, folder: Path, **trainer: Any) -> Document:
    made: Document = small.document(folder, **{"model": MODEL, "warm_start": {}, "refit": True, **trainer})
    del made["train"]["validation"]
    return {**made, "train": {**made["train"], "validation_share": 0.2}}


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the model that a run's configuration names."""
    config = load_config(folder / "config.yaml")
    found: dict[str, torch.Tensor] = load_file(config.encoder.settings.checkpoint)
    return found


def test_a_start_that_no_epoch_beats_is_the_result(small: Any, folder: Path, tmp_path: Path) -> None:
    # Steps as large as these leave nothing of the start.
    spoilt = small.document(folder, model=MODEL, warm_start={}, learning_rate=30.0, epochs=9, patience=2)
    outcome = small.train(spoilt, tmp_path / "spoilt")
    records = small.history(tmp_path / "spoilt")
    assert [record["epoch"] for record in records] == [0.0, 1.0, 2.0]
    assert "learning_rate" not in records[0]
    assert records[0]["recall"] > max(record["recall"] for record in records[1:])
    assert outcome.metrics["epoch"] == 0.0
    assert outcome.metrics["recall"] == records[0]["recall"]
    still = small.document(folder, model=MODEL, warm_start={}, learning_rate=1e-12, epochs=1)
    small.train(still, tmp_path / "still")
    for name, value in tensors(tmp_path / "still").items():
        torch.testing.assert_close(tensors(tmp_path / "spoilt")[name], value, atol=1e-6, rtol=0)


def test_without_a_warm_start_there_is_no_epoch_0(small: Any, folder: Path, tmp_path: Path) -> None:
    small.train(small.document(folder, epochs=1), tmp_path)
    assert [record["epoch"] for record in small.history(tmp_path)] == [1.0]


def test_the_start_is_of_all_pairs_where_no_epoch_is_better(small: Any, rows: Path, tmp_path: Path) -> None:
    small.train(document(small, rows, learning_rate=30.0, patience=1), tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").glob("all-pairs-*")) == ["all-pairs-0"]
    everything = document(small, rows, learning_rate=1e-12, epochs=1)
    everything["train"] |= {"validation_share": 0.0}
    small.train(everything, tmp_path / "all")
    for name, value in tensors(tmp_path / "all").items():
        torch.testing.assert_close(tensors(tmp_path / "run")[name], value, atol=1e-6, rtol=0)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_all_pairs_are_trained_for_as_many_epochs_as_were_best(
    small: Any, rows: Path, tmp_path: Path, schedule: str
) -> None:
    weak = {"pictures": 2}  # a start from two pictures leaves something to learn
    asked = document(small, rows, epochs=6, patience=2, learning_rate=2e-2, schedule=schedule, warm_start=weak)
    outcome = small.train(asked, tmp_path / "run")
    best = int(outcome.metrics["epoch"])
    assert 1 <= best <= 6, "this test wants a run that learns something"
    again = tmp_path / "run" / f"all-pairs-{best}"
    assert outcome.files["model"] == again / "model.safetensors"
    history = [json.loads(line) for line in (again / "history.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in history] == [float(number + 1) for number in range(best)]
    # The rates are those of the run that was asked for, cut short; an epoch of more pairs has more steps.
    first = [record["learning_rate"] for record in small.history(tmp_path / "run") if record["epoch"]]
    assert [record["learning_rate"] for record in history] == pytest.approx(first[:best], abs=2e-3)
    # Called again, nothing is trained again.
    model = (again / "model.safetensors").read_bytes()
    small.train(asked, tmp_path / "run")
    assert (again / "model.safetensors").read_bytes() == model


def test_a_named_validation_set_is_not_trained_on(small: Any, folder: Path, tmp_path: Path) -> None:
    small.train(small.document(folder, model=MODEL, warm_start={}, refit=True, epochs=1), tmp_path)
    assert not list(tmp_path.glob("all-pairs-*"))

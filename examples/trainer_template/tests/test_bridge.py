"""It conforms, it learns, and a run that stops goes on to the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import heritage_align_bridge
import pytest
from heritage_align_bridge.trainer import BridgeTask

from heritage_align import Pipeline, load_config
from heritage_align.plugin import PluginInfo, Registry
from heritage_align.testing import Case, check_component
from heritage_align.training import TrainingOutcome, run_training


def motifs(split: str, artworks: int) -> dict[str, Any]:
    # Captions of a catalogue, whose words the shipped encoder has not seen: of a visitor's it finds 99 % untrained.
    return {"name": "motifs", "split": split, "artworks": artworks, "variants": 1, "domain": "specialist"}


SETTINGS = {
    "data": motifs("train", 96),
    "validation": motifs("val", 24),
    "epochs": 4,
    "batch_size": 16,
    "learning_rate": 3e-3,
}
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "name": "bridge",
    "encoder": {"name": "cn_clip", "model": "motif-small"},
    "similarity": {"name": "global"},
    "runtime": {"device": "cpu"},
}


@pytest.fixture(autouse=True)
def _registered(ha_registry: Registry) -> None:
    if "bridge" not in ha_registry.names("trainer"):  # where it is not installed
        ha_registry.add(PluginInfo("bridge", "heritage_align_bridge", "tests"), heritage_align_bridge)


def train(folder: Path, registry: Registry, **changes: Any) -> TrainingOutcome:
    document = {**DOCUMENT, "train": {"name": "bridge", **SETTINGS, **changes}}
    return run_training(load_config(document, registry=registry), folder, quiet=True, registry=registry)


def test_it_conforms() -> None:
    results = check_component(Case("trainer", "bridge", settings=SETTINGS, system=DOCUMENT))
    assert {result.state for result in results} == {"passed"}


def test_it_learns_and_its_result_is_a_configuration(tmp_path: Path, ha_registry: Registry) -> None:
    before = train(tmp_path / "before", ha_registry, epochs=1, learning_rate=1e-12).metrics["recall"]
    outcome = train(tmp_path / "run", ha_registry)
    assert outcome.metrics["recall"] > before + 5  # 63.9 and 52.4
    pipeline = Pipeline(load_config(tmp_path / "run" / "config.yaml", registry=ha_registry), ha_registry)
    assert pipeline.encoder.fingerprint().startswith("bridge/sha256:")


def test_a_run_that_stops_goes_on(tmp_path: Path, ha_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(tmp_path / "whole", ha_registry)
    step, calls = BridgeTask.step, []

    def stopped(self: BridgeTask, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(BridgeTask, "step", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", ha_registry)
    assert train(tmp_path / "run", ha_registry).files["model"].read_bytes() == whole.files["model"].read_bytes()

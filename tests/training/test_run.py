"""From a configuration to a trainer: which data it gets, what the folder holds, what is refused before it begins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from heritage_align.config import load_config
from heritage_align.errors import CheckpointError, ConfigError, DataError
from heritage_align.hookspecs import ComponentSpec, hookimpl
from heritage_align.plugins import PluginInfo, Registry
from heritage_align.protocols import BuildContext
from heritage_align.training.job import TrainingJob, TrainingOutcome
from heritage_align.training.run import run_training
from heritage_align.training.settings import TrainerConfig
from heritage_align.training.state import LAST

HERE = "nowhere"
Train = Callable[..., TrainingOutcome]


class Notes:
    """A trainer that keeps the jobs that it was given."""

    jobs: ClassVar[list[TrainingJob]] = []
    fault: Exception | None = None
    files: ClassVar[dict[str, Path]] = {}

    def __init__(self, config: TrainerConfig, context: BuildContext) -> None:
        self.seed = context.seed

    def train(self, job: TrainingJob) -> TrainingOutcome:
        self.jobs.append(job)
        if self.fault is not None:
            raise self.fault
        document = {key: value for key, value in job.config.as_dict().items() if key != "train"}
        return TrainingOutcome(document, {"recall": 12.5}, self.files)


class Plugin:
    @hookimpl
    def heritage_align_components(self) -> list[ComponentSpec]:
        return [ComponentSpec("trainer", "notes", f"{HERE}:Notes", f"{HERE}:Config")]


@pytest.fixture
def train(ha_registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Train:
    """Run the trainer; arguments are its settings and, by `config`, those of the whole configuration."""
    ha_registry.add(PluginInfo("notes", "notes", "tests"), Plugin())  # type: ignore[arg-type]
    target, model = Registry.target, Registry.config_model
    monkeypatch.setattr(Registry, "target", lambda self, s: Notes if s.name == "notes" else target(self, s))
    monkeypatch.setattr(
        Registry, "config_model", lambda self, s: TrainerConfig if s.name == "notes" else model(self, s)
    )
    monkeypatch.setattr(Notes, "jobs", [])

    def run(config: dict[str, Any] | None = None, resume: bool = True, **settings: Any) -> TrainingOutcome:
        document = {
            "version": 1,
            "name": "x",
            "encoder": {"name": "cn_clip", "model": "motif-small"},
            "similarity": {"name": "global"},
            "train": {"name": "notes", **settings},
            "runtime": {"device": "cpu"},
            **(config or {}),
        }
        return run_training(load_config(document), tmp_path / "run", resume=resume, quiet=True)

    return run


def motifs(**more: Any) -> dict[str, Any]:
    return {"name": "motifs", "artworks": 10, "variants": 2, "size": 64, **more}


def test_a_tenth_of_the_artworks_is_held_out(train: Train) -> None:
    train(data=motifs())
    (job,) = Notes.jobs
    assert job.validation is not None
    assert (len(job.train.image_ids), len(job.validation.image_ids)) == (18, 2)
    artwork = {image_id.rpartition("-")[0] or image_id for image_id in job.validation.image_ids}
    assert not artwork & {image_id.rpartition("-")[0] or image_id for image_id in job.train.image_ids}


def test_or_the_named_part_or_none(train: Train) -> None:
    train(data=motifs(), validation=motifs(split="val"))
    train(data=motifs(), validation_share=0)
    named, none = Notes.jobs
    assert len(named.train.image_ids) == 20
    assert named.validation is not None
    assert len(named.validation.image_ids) == 20
    assert none.validation is None


def test_what_the_folder_holds(train: Train, tmp_path: Path) -> None:
    outcome = train(data=motifs())
    folder = tmp_path / "run"
    assert json.loads((folder / "metrics.json").read_text()) == {"recall": 12.5} == outcome.metrics
    assert load_config(folder / "config.yaml").train is None
    asked = load_config(folder / "training.yaml")
    assert asked.train is not None
    assert asked.train.as_dict()["data"]["artworks"] == 10


def test_training_yaml_is_of_the_checkpoint_and_not_of_a_failed_attempt(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> Any:
        config = load_config(tmp_path / "run" / "training.yaml")
        assert config.train is not None
        return config.train.as_dict()["epochs"]

    with monkeypatch.context() as patch:
        patch.setattr(Notes, "fault", DataError("bad data"))
        with pytest.raises(DataError, match="bad data"):
            train(data=motifs(), epochs=3)
    assert asked() == 3
    train(data=motifs(), epochs=4, resume=False)  # nothing had been trained
    assert asked() == 4
    (tmp_path / "run" / "stage").mkdir()
    (tmp_path / "run" / "stage" / LAST).touch()
    with monkeypatch.context() as patch:
        patch.setattr(Notes, "fault", CheckpointError("of another run"))
        with pytest.raises(CheckpointError, match="of another run"):
            train(data=motifs(), epochs=5)
    assert asked() == 4, "the checkpoint there is of this one"
    train(data=motifs(), epochs=6)
    assert asked() == 6, "the run that was begun for four went on"


def test_a_run_is_not_overwritten(train: Train) -> None:
    train(data=motifs())
    with pytest.raises(DataError, match=r"holds a run already; go on with it \(without --fresh\)"):
        train(data=motifs(), resume=False)
    assert len(Notes.jobs) == 1


def test_faults_before_anything_is_trained(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train: is missing; name a trainer, for example"):
        train(config={"train": None})
    with pytest.raises(ConfigError, match=r"train\.data: is missing; name the data set to learn from, or give --data"):
        train()
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match="has no texts to learn from"):
        train(data={"name": "folder", "folder": str(tmp_path)})
    with pytest.raises(ConfigError, match=r"train\.data\.file: there is no file"):
        train(data={"name": "table", "file": "none.csv"})
    with pytest.raises(DataError, match="1 artworks are too few to hold out a share of 0.9"):
        train(data=motifs(artworks=1), validation_share=0.9)
    assert Notes.jobs == []
    assert not (tmp_path / "run").exists()


def test_a_file_of_the_result_that_is_gone_is_named(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is at its end writes no model again: it was said to be written."""
    monkeypatch.setattr(Notes, "files", {"model": tmp_path / "model.safetensors"})
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is missing, .* says that it wrote it.*train again"):
        train(data=motifs())
    (tmp_path / "model.safetensors").touch()
    assert train(data=motifs()).files == Notes.files


def test_settings_that_cannot_be(train: Train) -> None:
    for settings in ({"epochs": 0}, {"validation_share": 1}, {"patience": 0}, {"precision": "fp8"}, {"epoch": 3}):
        with pytest.raises(ConfigError, match=rf"train\.{next(iter(settings))}: "):
            train(data=motifs(), **settings)

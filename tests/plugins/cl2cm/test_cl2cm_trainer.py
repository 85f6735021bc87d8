"""The trainer: what each mode learns from, resuming, what is refused, and the way from config to recall."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heritage_align_plugins.cl2cm.config import Cl2cmTrainerConfig
from heritage_align_plugins.cl2cm.description import read_description
from heritage_align_plugins.cl2cm.student import StudentStage
from heritage_align_plugins.cl2cm.teacher import TeacherStage
from pydantic import ValidationError
from safetensors.torch import load_file

from heritage_align.config import load_config
from heritage_align.data.frame_features import read_frame_features
from heritage_align.data.region_features import write_region_features
from heritage_align.errors import CheckpointError, ConfigError, DataError
from heritage_align.evaluation.systems import encode_dataset, evaluate_system
from heritage_align.pipeline import Pipeline
from heritage_align.testing import Case, check_component
from heritage_align.training.job import TrainingOutcome

Write = Callable[..., dict[str, Any]]
Train = Callable[..., TrainingOutcome]


def history(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def test_the_kit() -> None:
    check_component(Case("trainer", "cl2cm", {"teacher": {"data": {"name": "motifs", "artworks": 2, "size": 64}}}))


def test_config_to_recall(trained: TrainingOutcome) -> None:
    assert trained.metrics["recall"] > 0
    assert all(path.exists() for path in trained.files.values())
    pipeline = Pipeline(load_config(trained.document))
    result = evaluate_system(pipeline, encode_dataset(pipeline, pipeline.dataset())).result
    assert result.t2i is not None
    assert len(result.t2i.ranks.query_ids) == 12


def test_each_mode_has_its_losses(write: Write, train: Train, trained: TrainingOutcome, tmp_path: Path) -> None:
    ours = history(trained.files["model"].parent)[-1]
    assert {name for name in ours if name.startswith("loss_")} == {"loss_target", "loss_source", "loss_relations"}
    teacher = history(trained.files["teacher"].parent)[-1]
    assert teacher["loss"] == pytest.approx(teacher["loss_sentence"] + 0.3 * teacher["loss_word"], rel=1e-5)
    for mode, parts in (("none", {"loss_target", "loss_source"}), ("triplet", set())):
        outcome = train(write(mode=mode, epochs=1), tmp_path / mode)
        record = history(tmp_path / mode)[-1]
        assert {name for name in record if name.startswith("loss_")} == parts
        assert "teacher" not in outcome.files
        assert not (tmp_path / mode / "teacher").exists()
        assert read_description(outcome.files["model"]).mode == mode


def test_modes_differ_in_nothing_but_their_losses(write: Write, train: Train, tmp_path: Path) -> None:
    """From the same weights on the same batch, the first step's InfoNCE is the same number."""
    first = {}
    for mode in ("cl2cm", "none"):
        train(write(mode=mode, batch_size=48, epochs=1, teacher={"epochs": 1}), tmp_path / mode)
        first[mode] = history(tmp_path / mode)[0]["loss_target"]
    assert first["cl2cm"] == first["none"]


def test_the_teacher_learns(write: Write, train: Train, tmp_path: Path) -> None:
    """Among 12 candidates chance has a mean recall of 44 (R@1, 5, 10)."""
    text = {"name": "motifs", "split": "train", "artworks": 120, "variants": 1, "size": 64, "seed": 5}
    teacher = {"epochs": 8, "learning_rate": 1e-2, "data": text}
    outcome = train(write(epochs=1, teacher=teacher), tmp_path)
    assert max(record["recall"] for record in history(outcome.files["teacher"].parent)) > 60


@pytest.mark.parametrize("stage", [TeacherStage, StudentStage])
def test_a_killed_run_goes_on_to_the_same_weights(
    write: Write, train: Train, trained: TrainingOutcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: type
) -> None:
    step, calls = stage.step, 0  # type: ignore[attr-defined]

    def killed(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:  # of 6: in the second epoch
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(write(), tmp_path)
    with monkeypatch.context() as patch:  # the pictures were encoded by the first start
        patch.setattr("heritage_align.shards.encode_parts", None)
        outcome = train(write(), tmp_path)
    assert outcome.files["model"].read_bytes() == trained.files["model"].read_bytes()


def test_another_run_in_the_folder_is_refused(write: Write, train: Train, trained: TrainingOutcome) -> None:
    folder = trained.files["model"].parent
    with pytest.raises(CheckpointError, match="another configuration"):
        train(write(learning_rate=1e-3), folder)
    with pytest.raises(DataError, match="holds a run already"):
        train(write(), folder, resume=False)


def test_parallel_text_reaches_the_teacher_alone(write: Write, train: Train, tmp_path: Path) -> None:
    text = {"name": "motifs", "split": "train", "artworks": 40, "variants": 1, "size": 64, "seed": 5}
    outcome = train(write(epochs=1, teacher={"epochs": 1, "data": text}), tmp_path / "more")
    plain = train(write(epochs=1, teacher={"epochs": 1}), tmp_path / "plain")
    assert outcome.files["teacher"].read_bytes() != plain.files["teacher"].read_bytes()
    # 48 pictures and 40 texts make 5 batches of 16 for the teacher; the student keeps its 3.
    state = torch.load(tmp_path / "more/teacher/last.pt", weights_only=True)
    assert state["updates"] == 5
    assert torch.load(tmp_path / "more/last.pt", weights_only=True)["updates"] == 3


def test_a_warm_start_is_the_teacher(write: Write, train: Train, tmp_path: Path) -> None:
    """At a rate of next to nothing the student's text model stays what it began as."""
    settings = {"epochs": 1, "learning_rate": 1e-12, "teacher": {"epochs": 1}, "warm_start": True}
    outcome = train(write(**settings, distillation_weight=0), tmp_path)
    student, teacher = (load_file(outcome.files[name]) for name in ("model", "teacher"))
    for name, value in teacher.items():
        assert torch.allclose(student[f"text.{name}"], value, atol=1e-6)
    assert "loss_relations" not in history(tmp_path)[0]
    with pytest.raises(ValidationError, match="the teacher is for nothing"):
        Cl2cmTrainerConfig(distillation_weight=0)


def videos(folder: Path) -> dict[str, Any]:
    """Write twelve videos in VATEX's form, each of its own colour, and return a configuration without an encoder."""
    rng = np.random.default_rng(0)
    (folder / "frames").mkdir()
    entries, lines = [], []
    for number in range(12):
        video = f"v_{number}"
        np.save(folder / "frames" / f"{video}.npy", rng.normal(size=(1, 3, 8)).astype(np.float32))
        entries.append({"videoID": video, "enCap": [f"a thing {number}", f"thing {number} moves"]})
        lines += [f"{video}#enc2zh#{k} 物{number}动{k}" for k in range(2)]
    (folder / "vatex.json").write_text(json.dumps(entries))
    (folder / "zh.txt").write_text("\n".join(lines))
    write_region_features(folder / "frames.safetensors", read_frame_features(folder / "frames"))
    data = {"name": "vatex", "file": str(folder / "vatex.json"), "translations": str(folder / "zh.txt")}
    return {
        "version": 1,
        "name": "vatex",
        "encoder": {"name": "region_features", "dim": 8},
        "proposer": {"name": "region_features", "path": str(folder / "frames.safetensors"), "count": None},
        "similarity": {"name": "global"},
        "data": {**data, "language": "zh"},
        "train": {"name": "cl2cm", "data": data, "validation": data, "source": "en", "target": "zh", "epochs": 12},
        "runtime": {"device": "cpu"},
    }


def test_videos_by_their_frame_features(train: Train, tmp_path: Path) -> None:
    document = videos(tmp_path)
    document["train"] |= {"text": {"width": 16, "heads": 2}, "dim": 16, "teacher": {"epochs": 1}, "learning_rate": 0.02}
    document["train"] |= {"word_dropout": 0, "image_dropout": 0, "batch_size": 4}
    outcome = train(document, tmp_path / "run")
    assert outcome.metrics["recall"] > 60  # twelve videos, learned by heart; chance is 44
    assert outcome.document["encoder"] == {"name": "cl2cm", "checkpoint": str(tmp_path / "run/model.safetensors")}
    pipeline = Pipeline(load_config(outcome.document))
    result = evaluate_system(pipeline, encode_dataset(pipeline, pipeline.dataset())).result
    assert result.mean_recall == pytest.approx(outcome.metrics["recall"])


def test_settings_that_cannot_be(write: Write, train: Train, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="and so is source"):
        Cl2cmTrainerConfig(source="en")
    with pytest.raises(ValidationError, match="do not divide width 10"):
        Cl2cmTrainerConfig.model_validate({"text": {"width": 10}})
    with pytest.raises(DataError, match="language 'de': has no caption"):
        train(write(target="de"), tmp_path)
    document = videos(tmp_path)
    document["encoder"] = {"name": "cn_clip", "model": "motif-small"}
    document["train"]["data"] = {"name": "nowhere"}
    with pytest.raises(ConfigError, match=r"train.data.name"):
        load_config(document)

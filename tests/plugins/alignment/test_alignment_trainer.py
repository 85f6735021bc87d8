"""Whole runs on region features: from a configuration to a system, resumed, refused, and on data at fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from heritage_align_plugins.alignment.checkpoint import load_model
from heritage_align_plugins.alignment.task import AlignmentTask
from safetensors.torch import load_file

from heritage_align.config import load_config
from heritage_align.data.region_features import RegionFeatures, read_region_features, write_region_features
from heritage_align.errors import CheckpointError, DataError
from heritage_align.evaluation.systems import encode_dataset, evaluate_system
from heritage_align.pipeline import Pipeline
from heritage_align.testing import Case, check_component
from heritage_align.training.job import TrainingOutcome

LEVELS = {
    "name": "weighted_sum",
    "terms": [{"weight": 1.0, "similarity": {"name": "scan"}}, {"weight": 1.0, "similarity": {"name": "global"}}],
}


def kit(small: Any, folder: Path, **settings: Any) -> dict[str, Any]:
    document = small.document(folder, **settings)
    trainer = {key: value for key, value in document.pop("train").items() if key != "name"}
    return {"settings": trainer, "system": document}


def test_it_conforms(small: Any, folder: Path) -> None:
    results = check_component(Case("trainer", "alignment", **kit(small, folder, epochs=2)))
    assert {result.state for result in results} == {"passed"}


def test_the_cca_conforms(small: Any, folder: Path) -> None:
    made = kit(small, folder)
    made["settings"] = {key: made["settings"][key] for key in ("data", "validation")} | {"dim": 8}
    made["system"]["similarity"] = {"name": "global"}
    results = check_component(Case("trainer", "cca", **made))
    assert {result.state for result in results} == {"passed"}


def test_the_cca_is_fitted_on_all_pairs_where_some_were_held_out_of_them(
    small: Any, folder: Path, tmp_path: Path
) -> None:
    def fitted(name: str, **changes: Any) -> TrainingOutcome:
        config = small.document(folder)
        config["similarity"] = {"name": "global"}
        config["train"] = {"name": "cca", "data": config["train"]["data"], "dim": 8, **changes}
        return small.train(config, tmp_path / name)

    held, whole = fitted("held", validation_share=0.2), fitted("whole", validation_share=0)
    assert "recall" in held.metrics
    assert "recall" not in whole.metrics
    assert tensors(held) == pytest.approx(tensors(whole), abs=1e-4)
    # A validation set of its own is not learned from.
    named = fitted("named", validation=small.document(folder)["train"]["validation"])
    assert tensors(named) == pytest.approx(tensors(whole), abs=1e-4)
    assert "recall" in named.metrics


def tensors(outcome: TrainingOutcome) -> list[float]:
    """Return a model's directions, whose signs and order are free, as the singular values of its image projection."""
    state = load_file(outcome.files["model"])
    return [
        float(v) for name in sorted(state) if state[name].ndim == 2 for v in torch.linalg.svdvals(state[name].float())
    ]


def test_the_outcome_reaches_the_recall_that_it_says(trained: TrainingOutcome, small: Any, folder: Path) -> None:
    pipeline = Pipeline(load_config({**trained.document, "data": small.document(folder)["train"]["validation"]}))
    result = evaluate_system(pipeline, encode_dataset(pipeline, pipeline.dataset())).result
    assert result.mean_recall == pytest.approx(trained.metrics["recall"])
    assert trained.document["encoder"]["checkpoint"] == str(trained.files["model"])
    assert all(path.exists() for path in trained.files.values())


OBJECTIVES: dict[str, dict[str, Any]] = {
    "two levels": {"similarity": LEVELS},
    "infonce": {"train": {"loss": "infonce", "schedule": "cosine", "weight_decay": 0.01}},
    "bag": {"train": {"model": {"dim": 16, "text": ["bag"], "sentence": "whole"}}, "similarity": {"name": "global"}},
    "warm start": {"train": {"model": {"dim": 16, "text": ["bigru", "bag"]}, "warm_start": {}}},
    "deepfrag": {"train": {"loss": "deepfrag"}, "similarity": {"name": "deepfrag"}},
    "bfan, keypoints": {
        "similarity": {"name": "scan", "rectifier": "relu"},
        "filters": [{"name": "bfan_focal", "mode": "sheng"}],
        "proposer": {"min_keypoints": 2},
    },
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_learns(small: Any, folder: Path, tmp_path: Path, name: str) -> None:
    """Eight pictures with a caption each: chance has a mean recall of (12.5 + 62.5 + 100) / 3 = 58.3."""
    changes = OBJECTIVES[name]
    config = small.document(folder, epochs=12, **{"learning_rate": 2e-2, **changes.get("train", {})})
    config |= {key: value for key, value in changes.items() if key not in ("train", "proposer")}
    config["proposer"] |= changes.get("proposer", {})
    outcome = small.train(config, tmp_path)
    assert outcome.metrics["recall"] > 75
    losses = [
        sum(value for key, value in record.items() if key.startswith("loss"))
        for record in small.history(tmp_path)
        if record["epoch"]  # the record of a start that was measured has none
    ]
    assert losses[-1] < losses[0]
    assert Pipeline(load_config(outcome.document)).config.name == "small"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision(small: Any, folder: Path, tmp_path: Path, precision: str) -> None:
    outcome = small.train(small.document(folder, precision=precision, epochs=4), tmp_path)
    wide = small.train(small.document(folder, epochs=4), tmp_path / "fp32")
    first = [small.history(path)[0]["loss scan"] for path in (tmp_path, tmp_path / "fp32")]
    assert first[0] == pytest.approx(first[1], rel=0.05)
    assert first[0] != first[1]
    model, _ = load_model(outcome.files["model"])
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert wide.files["model"].read_bytes() != outcome.files["model"].read_bytes()


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, when: Callable[[int], bool]) -> Iterator[list[int]]:
    """Interrupt the training inside at the first step for whose number, from 1, `when` holds; yields the numbers."""
    step, calls = AlignmentTask.step, list[int]()

    def counted(self: AlignmentTask, *arguments: Any) -> Any:
        calls.append(len(calls) + 1)
        if when(len(calls)):
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(AlignmentTask, "step", counted)
        with pytest.raises(KeyboardInterrupt):
            yield calls


@pytest.mark.parametrize("changes", [{}, {"model": {"dim": 16, "embedding_dim": 12, "dropout": 0.3, "unknown": 0.2}}])
def test_a_killed_run_goes_on_to_the_same_file(
    small: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    config = small.document(folder, checkpoint_steps=2, **changes)
    whole = small.train(config, tmp_path / "whole")
    with killed(monkeypatch, lambda calls: calls == 6):  # the third of three steps of the second epoch
        small.train(config, tmp_path / "killed")
    left = torch.load(tmp_path / "killed" / "last.pt", weights_only=True)
    assert (left["epoch"], left["step"]) == (1, 2)
    again = small.train(config, tmp_path / "killed")
    assert again.files["model"].read_bytes() == whole.files["model"].read_bytes()
    assert small.history(tmp_path / "killed") == small.history(tmp_path / "whole")
    assert again.document["encoder"] | {"checkpoint": ""} == whole.document["encoder"] | {"checkpoint": ""}


def test_another_configuration_in_the_folder_is_refused(small: Any, folder: Path, tmp_path: Path) -> None:
    small.train(small.document(folder, epochs=1), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(CheckpointError, match=r"another configuration or other data \(training\.yaml beside it"):
        small.train(small.document(folder, epochs=1, margin=0.3), tmp_path)
    with pytest.raises(DataError, match="holds a run already"):
        small.train(small.document(folder, epochs=1), tmp_path, resume=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_run_goes_on_to_more_epochs_and_ends_at_fewer(
    small: Any, folder: Path, tmp_path: Path, schedule: str
) -> None:
    def epochs(number: int) -> dict[str, Any]:
        return small.document(folder, epochs=number, schedule=schedule)

    whole = small.train(epochs(4), tmp_path / "whole")
    small.train(epochs(2), tmp_path / "run")
    more = small.train(epochs(4), tmp_path / "run")
    assert len(small.history(tmp_path / "run")) == 4
    last = [torch.load(tmp_path / name / "last.pt", weights_only=True)["model"] for name in ("whole", "run")]
    equal = all(torch.equal(value, last[1][name]) for name, value in last[0].items())
    # A constant rate does not depend on how many epochs there will be; half a cosine over two had fallen further.
    assert equal == (schedule == "constant")
    if equal:
        assert more.files["model"].read_bytes() == whole.files["model"].read_bytes()
    model = more.files["model"].read_bytes()
    fewer = small.train(epochs(3), tmp_path / "run")
    assert fewer.files["model"].read_bytes() == model
    assert fewer.metrics == more.metrics
    asked = load_config(tmp_path / "run" / "training.yaml").train
    assert asked is not None
    assert asked.as_dict()["epochs"] == 3


def test_golden_fine_tuning_is_of_a_number_of_epochs(small: Any, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 0 golden pairs"):  # after the epochs before it
        small.train(small.document(folder, epochs=1, golden_epochs=1), tmp_path)
    with pytest.raises(CheckpointError, match="another configuration"):
        small.train(small.document(folder, epochs=2, golden_epochs=1), tmp_path)


def test_other_features_under_the_same_name_are_refused(small: Any, tmp_path: Path) -> None:
    folder = small.write_collection(tmp_path / "data")
    small.train(small.document(folder, epochs=1), tmp_path / "run")
    path = folder / "region_features.safetensors"
    changed = read_region_features(path)
    other = RegionFeatures("x", changed.ids, changed.offsets, changed.values * 2, changed.boxes)
    write_region_features(path, other, dtype="fp32")
    with pytest.raises(CheckpointError, match="other data"):
        small.train(small.document(folder, epochs=1), tmp_path / "run")


def test_where_it_runs_is_no_part_of_what_it_is(small: Any, folder: Path, tmp_path: Path) -> None:
    first = small.train(small.document(folder, epochs=1), tmp_path)
    config = small.document(folder, epochs=1)
    config["runtime"] |= {"workers": 7, "batch_size": 5}
    config["train"]["checkpoint_steps"] = 1
    config |= {"name": "renamed", "search": {"top_k": 3}}
    again = small.train(config, tmp_path)
    assert again.files["model"].read_bytes() == first.files["model"].read_bytes()


def test_golden_fine_tuning_runs_and_resumes(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A box is a picture of one region, encoded as a crop (Sheng et al. 2021, 4.4)."""

    def motifs(split: str) -> dict[str, Any]:
        return {"name": "motifs", "split": split, "artworks": 4, "variants": 1, "size": 64}

    model = {"dim": 8, "embedding_dim": 6}
    config = {
        "version": 1,
        "name": "golden",
        "encoder": {"name": "cn_clip", "model": "motif-small"},
        "proposer": {"name": "patch_grid", "mode": "windows"},
        "fragmenter": {"name": "annotated"},
        "similarity": {"name": "scan"},
        "data": motifs("test"),
        "train": {
            "name": "alignment", "data": motifs("train"), "validation": motifs("val"), "model": model,
            "epochs": 1, "golden_epochs": 2, "batch_size": 4, "learning_rate": 1e-2, "checkpoint_steps": 1,
        },
        "runtime": {"device": "cpu"},
    }  # fmt: skip
    whole = small.train(config, tmp_path / "whole")
    before, after = (
        load_model(tmp_path / "whole" / name)[0] for name in ("model.safetensors", "golden/model.safetensors")
    )
    assert whole.files["model"] == tmp_path / "whole" / "golden" / "model.safetensors"
    assert any(not torch.equal(v, after.state_dict()[n]) for n, v in before.state_dict().items())
    assert torch.equal(before.image.mean, after.image.mean)
    assert len(small.history(tmp_path / "whole" / "golden")) == 2

    with killed(monkeypatch, lambda _: (tmp_path / "killed" / "golden" / "last.pt").exists()) as calls:
        small.train(config, tmp_path / "killed")
    assert len(calls) > 2
    again = small.train(config, tmp_path / "killed")
    assert again.files["model"].read_bytes() == whole.files["model"].read_bytes()
    pipeline = Pipeline(load_config(again.document))
    assert pipeline.encoder.dim == 8


def test_golden_boxes_have_no_features_in_a_file(small: Any, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 0 golden pairs; golden_epochs needs at least 2"):
        small.train(small.document(folder, epochs=1, golden_epochs=1), tmp_path)

"""A run that is stopped anywhere, by any means, goes on to the weights of one that was not."""

from __future__ import annotations

import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from heritage_align.errors import CheckpointError, DataError
from heritage_align.training.loop import run_identity, step_seed
from heritage_align.training.state import LAST, TrainingState


@pytest.fixture(scope="module")
def whole(toy: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingState, dict[str, Tensor]]:
    """A run from beginning to end, and what it exported."""
    folder = tmp_path_factory.mktemp("whole")
    state = toy.train(folder)
    return state, torch.load(folder / "exported.pt")


def without_time(state: TrainingState) -> list[dict[str, float]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in state.history]


def assert_same(state: TrainingState, folder: Path, whole: tuple[TrainingState, dict[str, Tensor]]) -> None:
    other, exported = whole
    assert (state.epoch, state.step, state.updates) == (3, 0, 12)
    assert (state.best, state.best_epoch, state.stale) == (other.best, other.best_epoch, other.stale)
    assert without_time(state) == without_time(other)
    for name, value in other.model.items():
        assert torch.equal(state.model[name], value), name
    for number, moments in other.optimizer["state"].items():
        for name, value in moments.items():
            assert torch.equal(state.optimizer["state"][number][name], value), name
    for name, value in torch.load(folder / "exported.pt").items():
        assert torch.equal(exported[name], value), name


EVERY_STEP = [("step", count, 1 + count % 3) for count in range(1, 13)]
ELSEWHERE = [("validate", 2, None), ("export", 2, None), ("exported", 2, 3), ("step", 7, None)]


@pytest.mark.parametrize(("event", "count", "checkpoint_steps"), EVERY_STEP + ELSEWHERE)
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    toy: ModuleType, whole: Any, tmp_path: Path, event: str, count: int, checkpoint_steps: int | None
) -> None:
    with pytest.raises(KeyboardInterrupt):
        toy.train(tmp_path, toy.Points(stop=(event, count)), checkpoint_steps=checkpoint_steps)
    torch.manual_seed(99)  # another process has another random state
    assert_same(toy.train(tmp_path, checkpoint_steps=checkpoint_steps), tmp_path, whole)


@pytest.mark.parametrize(("event", "count"), [("validate", 1), ("exported", 1), ("step", 2), ("step", 6)])
def test_a_run_that_measured_its_start_goes_on(toy: ModuleType, tmp_path: Path, event: str, count: int) -> None:
    state = toy.train(tmp_path / "whole", start=True)
    with pytest.raises(KeyboardInterrupt):
        toy.train(tmp_path / "cut", toy.Points(stop=(event, count)), start=True)
    again = toy.train(tmp_path / "cut", start=True)
    assert without_time(again) == without_time(state)
    assert (again.best, again.best_epoch, again.updates) == (state.best, state.best_epoch, state.updates)
    assert all(torch.equal(again.model[name], value) for name, value in state.model.items())


def test_a_process_that_is_killed_twice_goes_on(toy: ModuleType, whole: Any, run_script: Any, tmp_path: Path) -> None:
    for event, count in (("step", 6), ("exported", 1)):
        killed = run_script(toy.__file__, tmp_path, "--kill", event, count, "--checkpoint-steps", 1)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = torch.load(tmp_path / LAST, weights_only=True)
    assert (left["epoch"], left["step"]) == (1, 3)  # killed before the checkpoint of its second epoch
    assert_same(toy.train(tmp_path, checkpoint_steps=1), tmp_path, whole)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_finished_run_is_not_repeated(toy: ModuleType, tmp_path: Path) -> None:
    first = toy.train(tmp_path)
    task = toy.Points()
    again = toy.train(tmp_path, task)
    assert task.counts == {}
    assert without_time(again) == without_time(first)
    assert again.seconds == first.seconds


def test_fewer_epochs_than_are_done_end_the_run_with_what_it_has(
    toy: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = toy.train(tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in (LAST, "exported.pt", "history.jsonl")}
    task = toy.Points()
    state = toy.train(tmp_path, task, epochs=2, quiet=False)
    assert task.counts == {}
    assert f"{tmp_path}: has 3 epochs, 2 are asked for: it ends with what it has\n" in capsys.readouterr().err
    assert (state.epoch, state.best, state.best_epoch) == (3, first.best, first.best_epoch)
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


@pytest.mark.parametrize(("event", "count"), [("step", 6), ("step", 5), ("validate", 1)])
def test_fewer_epochs_stop_a_run_earlier_at_the_rate_of_that_many(
    toy: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], event: str, count: int
) -> None:
    first = toy.Points(stop=(event, count))
    with pytest.raises(KeyboardInterrupt):
        toy.train(tmp_path, first, epochs=50, checkpoint_steps=1)
    task = toy.Points()
    state = toy.train(tmp_path, task, epochs=2, quiet=False, checkpoint_steps=1)
    assert "was begun for 50 epochs and goes on to 2; from epoch" in capsys.readouterr().err
    assert (state.epoch, state.epochs, state.updates) == (2, 2, 8)
    done = 8 - len(task.rates)
    assert first.rates[:done] == pytest.approx([0.05 * (1 - update / 200) for update in range(done)])
    assert task.rates == pytest.approx([0.05 * (1 - update / 8) for update in range(done, 8)])
    toy.train(tmp_path, toy.Points(), epochs=2, quiet=False)
    assert "epochs" not in capsys.readouterr().err, "said once"


def test_more_epochs_take_a_finished_run_on(
    toy: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.train(tmp_path, toy.Points(recalls=[10.0, 30.0, 20.0]))
    task = toy.Points(recalls=[25.0, 40.0])
    state = toy.train(tmp_path, task, epochs=5, quiet=False)
    said = "was begun for 3 epochs and goes on to 5; from epoch 4 on the learning rate is that of a run of 5"
    assert said in capsys.readouterr().err
    assert [record["recall"] for record in state.history] == [10, 30, 20, 25, 40]
    assert (state.epoch, state.best, state.best_epoch) == (5, 40, 5)
    assert task.rates == pytest.approx([0.05 * (1 - update / 20) for update in range(12, 20)])


def test_more_epochs_without_a_better_one_keep_the_best_model(toy: ModuleType, tmp_path: Path) -> None:
    toy.train(tmp_path, toy.Points(recalls=[10.0, 30.0, 20.0]))
    best = (tmp_path / "exported.pt").read_bytes()
    state = toy.train(tmp_path, toy.Points(recalls=[25.0, 29.0]), epochs=5)
    assert (state.epoch, state.best_epoch) == (5, 2)
    assert (tmp_path / "exported.pt").read_bytes() == best


def test_a_run_that_patience_ended_goes_on_with_more_of_it(toy: ModuleType, tmp_path: Path) -> None:
    assert toy.train(tmp_path, toy.Points(recalls=[30.0, 20.0]), epochs=5, patience=1).epoch == 2
    task = toy.Points()
    assert toy.train(tmp_path, task, epochs=9, patience=1).epoch == 2
    assert task.counts == {}, "more epochs are not more patience"
    assert toy.train(tmp_path, toy.Points(recalls=[40.0, 20.0, 10.0, 5.0]), epochs=9, patience=2).epoch == 5


def test_a_step_s_seed_is_of_run_step_and_process() -> None:
    seeds = {step_seed(seed, update) for seed in range(20) for update in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert step_seed(3, 4) == 687_942_477_398_009_195  # sha256 of "3/4/0": the same on every machine


def test_another_run_s_checkpoint_is_refused(toy: ModuleType, tmp_path: Path) -> None:
    toy.train(tmp_path, epochs=1)
    before = (tmp_path / LAST).read_bytes()
    with pytest.raises(CheckpointError, match=r"last\.pt: is of a run with another configuration or other data"):
        toy.train(tmp_path, epochs=1, identity="other")
    with pytest.raises(DataError, match=r"holds a run already; resume it or train into another folder"):
        toy.train(tmp_path, epochs=1, resume=False)
    assert (tmp_path / LAST).read_bytes() == before


def test_the_identity_is_of_every_part_and_not_of_the_order_of_keys() -> None:
    assert run_identity({"a": 1, "b": 2}, ["图"]) == run_identity({"b": 2, "a": 1}, ["图"])
    parts = [run_identity({"a": 1}), run_identity({"a": 2}), run_identity({"a": 1}, []), run_identity([{"a": 1}])]
    assert len(set(parts)) == 4

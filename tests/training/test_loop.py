"""What the loop does beside resuming: rates, clipping, precision, early stopping, history, losses that break."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import torch

from heritage_align.errors import DataError, Note
from heritage_align.training.history import HISTORY, PLOT, history_files, write_history
from heritage_align.training.progress import EpochLog
from heritage_align.training.state import LAST

SVG = "{http://www.w3.org/2000/svg}"


def test_without_a_terminal_a_line_an_epoch_goes_to_stderr(
    toy: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.train(tmp_path / "log", toy.Points(recalls=[20.0, 30.0, 25.0]), quiet=False)
    out, err = capsys.readouterr()
    said = err.splitlines()
    span = r"\d+\.\d s"
    assert out == ""
    assert len(said) == 4
    assert re.fullmatch(rf"epoch 1/3: about {span} an epoch, {span} in all; validation comes on top", said[0])
    ends = (rf"about {span} left", rf"about {span} left", "the last")
    for line, number, recall, end in zip(said[1:], (1, 2, 3), (20, 30, 25), ends):
        assert re.fullmatch(rf"epoch {number}/3: loss \d\S*, recall {recall}, {span}, {end}", line), line
    toy.train(tmp_path / "quiet", toy.Points())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    toy.train(tmp_path / "terminal", toy.Points(), quiet=False)
    assert "an epoch, " not in capsys.readouterr().err


def test_the_time_of_an_epoch_is_told_from_its_first_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.0, *(2.0 * step for step in range(1, 8)), 250.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    log = EpochLog(10, shown=True)
    log.epoch_begins()
    for _ in range(7):
        log.step_done(0, 100)
    log.epoch_done({"epoch": 1.0, "learning_rate": 0.1, "seconds": 3.0, "loss": 0.5})
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1/10: about 3 min an epoch, 33 min in all; validation comes on top",
        "epoch 1/10: loss 0.5, 4 min, about 38 min left",
    ]


def test_it_learns(toy: ModuleType, tmp_path: Path) -> None:
    state = toy.train(tmp_path, toy.Points(dropout=0.0), epochs=30)
    assert state.history[-1]["loss"] < 0.5 * state.history[0]["loss"]
    assert state.best is not None
    assert state.best > state.history[0]["recall"]


def test_the_rate_of_every_step_is_peak_times_factor(toy: ModuleType, tmp_path: Path) -> None:
    task = toy.Points(stop=("step", 7))
    with pytest.raises(KeyboardInterrupt):
        toy.train(tmp_path, task, checkpoint_steps=1)
    resumed = toy.Points()
    state = toy.train(tmp_path, resumed, checkpoint_steps=1)
    expected = [0.05 * (1 - update / 12) for update in range(12)]
    assert task.rates[:6] + resumed.rates == pytest.approx(expected)
    assert [record["learning_rate"] for record in state.history] == pytest.approx(expected[3::4])


def test_a_gradient_is_clipped_to_its_largest_norm(toy: ModuleType, tmp_path: Path) -> None:
    class Descent(toy.Points):  # type: ignore[name-defined, misc]
        def optimizer(self) -> torch.optim.Optimizer:
            self.built = torch.optim.SGD(self.model.parameters(), lr=1.0)
            return self.built

        def rate(self, update: int, updates: int) -> float:
            return 1.0

    for limit in (0.01, None):
        task = Descent(stop=("step", 2), dropout=0.0)
        before = {name: value.clone() for name, value in task.state().items()}
        with pytest.raises(KeyboardInterrupt):
            toy.train(tmp_path / str(limit), task, clip_gradient=limit)
        moved = torch.cat([(value - before[name]).flatten() for name, value in task.state().items()]).norm().item()
        assert moved == pytest.approx(0.01, rel=1e-4) if limit else moved > 1


def test_the_scaled_gradients_of_fp16_give_the_weights_of_fp32(toy: ModuleType, tmp_path: Path) -> None:
    """The toy computes in fp32 whatever the setting, and a scale of 2^16 costs no bit."""
    wide, narrow = (toy.train(tmp_path / name, precision=name) for name in ("fp32", "fp16"))
    assert narrow.scaler["scale"] == 2.0**16
    assert wide.scaler == {}
    for name, value in wide.model.items():
        assert torch.equal(narrow.model[name], value), name


def test_a_gradient_that_fp16_cannot_hold_is_left_out_and_the_scale_halved(toy: ModuleType, tmp_path: Path) -> None:
    class Overflows(toy.Points):  # type: ignore[name-defined, misc]
        def step(self, batch, scale):  # type: ignore[no-untyped-def]
            found = super().step(batch, scale)
            if self.counts["step"] == 2:
                self.model[0].weight.grad[0, 0] = float("inf")
            return found

    with pytest.raises(KeyboardInterrupt):
        toy.train(tmp_path, Overflows(stop=("step", 6)), precision="fp16", checkpoint_steps=1)
    left = torch.load(tmp_path / LAST, weights_only=True)
    assert left["scaler"]["scale"] == 2.0**15
    resumed = toy.train(tmp_path, precision="fp16", checkpoint_steps=1)
    whole = toy.train(tmp_path / "whole", Overflows(), precision="fp16")
    assert resumed.scaler == whole.scaler
    assert all(torch.equal(resumed.model[name], value) for name, value in whole.model.items())
    assert all(bool(value.isfinite().all()) for value in whole.model.values())


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(toy: ModuleType, tmp_path: Path, loss: float) -> None:
    message = rf"epoch 2, step 2: loss is {loss}; the checkpoint before it is kept\. Lower learning_rate"
    with pytest.raises(DataError, match=message):
        toy.train(tmp_path, toy.Points(losses={6: loss}))
    left = torch.load(tmp_path / LAST, weights_only=True)
    assert (left["epoch"], left["step"]) == (1, 0)
    assert all(bool(value.isfinite().all()) for value in left["model"].values())
    assert toy.train(tmp_path).epoch == 3


def test_it_stops_early_and_exports_the_best_epoch(toy: ModuleType, tmp_path: Path) -> None:
    recalls = [30.0, 50.0, 50.0, 40.0, 90.0]
    task = toy.Points(recalls=recalls)
    state = toy.train(tmp_path, task, epochs=5, patience=2)
    assert (state.epoch, state.best, state.best_epoch, state.stale) == (4, 50.0, 2, 2)
    assert task.counts["export"] == 2
    best = toy.Points(recalls=recalls, stop=("step", 9))
    with pytest.raises(KeyboardInterrupt):
        toy.train(tmp_path / "two", best, epochs=5, patience=2)
    exported = torch.load(tmp_path / "exported.pt")
    assert all(torch.equal(exported[n], v) for n, v in torch.load(tmp_path / "two" / "exported.pt").items())
    again = toy.Points(recalls=recalls)
    assert toy.train(tmp_path, again, epochs=5, patience=2).epoch == 4
    assert again.counts == {}


def test_a_start_that_is_never_beaten_stays_the_result(toy: ModuleType, tmp_path: Path) -> None:
    task = toy.Points(recalls=[60.0, 50.0, 60.0, 90.0])
    begun = {name: value.clone() for name, value in task.state().items()}
    state = toy.train(tmp_path, task, epochs=5, patience=2, start=True)
    # As good is not better: the start stays, and counts for patience like any other.
    assert (state.epoch, state.best, state.best_epoch, state.stale) == (2, 60.0, 0, 2)
    assert [record["epoch"] for record in state.history] == [0.0, 1.0, 2.0]
    assert state.best_record() == {"epoch": 0.0, "recall": 60.0}
    assert task.counts["export"] == 1
    assert all(torch.equal(begun[name], value) for name, value in torch.load(tmp_path / "exported.pt").items())


def test_an_epoch_above_the_start_takes_its_place(toy: ModuleType, tmp_path: Path) -> None:
    task = toy.Points(recalls=[60.0, 50.0, 61.0, 10.0])
    state = toy.train(tmp_path, task, epochs=3, start=True)
    assert (state.best, state.best_epoch) == (61.0, 2)
    assert state.best_record()["epoch"] == 2
    assert task.counts["export"] == 2


def test_a_start_that_nothing_judges_is_not_kept(toy: ModuleType, tmp_path: Path) -> None:
    task = toy.Points(recalls=())
    state = toy.train(tmp_path, task, epochs=2, start=True)
    assert ([record["epoch"] for record in state.history], task.counts["export"]) == ([1.0, 2.0], 2)


def test_a_run_that_ends_before_its_epochs_has_their_rates(toy: ModuleType, tmp_path: Path) -> None:
    whole, part = toy.Points(recalls=()), toy.Points(recalls=())
    toy.train(tmp_path / "whole", whole, epochs=6)
    state = toy.train(tmp_path / "part", part, epochs=6, until=2)
    assert (state.epoch, part.counts["step"]) == (2, 2 * toy.BATCHES)
    assert part.rates == whole.rates[: 2 * toy.BATCHES]
    assert toy.train(tmp_path / "part", toy.Points(recalls=()), epochs=6, until=2).updates == state.updates


def test_validation_is_where_it_is_due(toy: ModuleType, tmp_path: Path) -> None:
    task = toy.Points(recalls=[10.0, 20.0, 30.0])
    state = toy.train(tmp_path, task, epochs=5, validate_every=2)
    assert [record.get("recall") for record in state.history] == [None, 10.0, None, 20.0, 30.0]
    assert state.best_epoch == 5


def test_without_validation_the_last_epoch_is_exported(toy: ModuleType, tmp_path: Path) -> None:
    task = toy.Points(recalls=())
    state = toy.train(tmp_path, task)
    assert (state.best, state.best_epoch) == (None, 0)
    assert task.counts["export"] == 3
    assert all(torch.equal(torch.load(tmp_path / "exported.pt")[n], v) for n, v in task.state().items())


def test_no_batch_at_all(toy: ModuleType, tmp_path: Path) -> None:
    class Empty(toy.Points):  # type: ignore[name-defined, misc]
        def begin_epoch(self, epoch: int) -> list[torch.Tensor]:
            return []

    with pytest.raises(DataError, match="not a single batch; lower batch_size or give more pictures"):
        toy.train(tmp_path, Empty())


def test_the_history_is_written_and_drawn(toy: ModuleType, tmp_path: Path) -> None:
    state = toy.train(tmp_path)
    records = [json.loads(line) for line in (tmp_path / HISTORY).read_text().splitlines()]
    assert records == state.history
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert set(records[0]) == {"epoch", "learning_rate", "seconds", "loss", "recall", "recall t2i"}
    assert sum(record["seconds"] for record in records) > 0
    ElementTree.parse(tmp_path / PLOT)


def test_without_matplotlib_the_picture_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.warns(Note, match=r"history\.svg is not drawn .*pip install 'heritage-align\[plots\]'"):
        write_history([{"epoch": 1, "loss": 1.0}], tmp_path)
    (tmp_path / HISTORY).touch()
    assert history_files(tmp_path) == {"history": tmp_path / HISTORY}


def test_a_curve_for_every_number(tmp_path: Path) -> None:
    records = [{"epoch": e, "loss a": 1 / e, "loss b": 2 / e, "seconds": e, "learning_rate": 1} for e in (1, 2, 3)]
    write_history([records[0], *({**record, "recall": 50.0} for record in records[1:])], tmp_path)
    root = ElementTree.parse(tmp_path / PLOT).getroot()
    legends = root.findall(f".//{SVG}g[@id='legend_1']") + root.findall(f".//{SVG}g[@id='legend_2']")
    assert len(legends) == 2
    text = (tmp_path / PLOT).read_text()
    for label in ("loss a", "loss b", "recall", "validation, %", "epoch"):
        assert f"<!-- {label} -->" in text, label
    assert "<!-- seconds -->" not in text

"""Runs that are killed go on to the same weights; two processes train as one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from heritage_align.errors import ConfigError
from heritage_align.training import distributed

ROOT = Path(__file__).parents[3]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def weights(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "last.pt", weights_only=True)
    return state


@pytest.mark.usefixtures("one_thread")
def test_a_run_killed_in_an_epoch_goes_on_to_the_same_weights(tiny, script, model, tmp_path):
    # Everything that draws: dropout, masks, augmentation, captions; parts of a batch and both stages.
    stages = [{"epochs": 1, "freeze": "vision"}, {"epochs": 2}]
    settings = {"stages": stages, "augmentation": {}, "mask_ratio": 0.25, "accumulate": 2, "checkpoint_steps": 1}
    command = [sys.executable, str(script), str(tmp_path / "killed"), str(model), json.dumps(settings)]
    # 30 pictures with 2 captions are 7 batches of 8 an epoch, and each is looked at once before the first: the 120th
    # picture is in the second epoch.
    killed = run([*command, "--captions", "2", "--validate", "--kill-at", "120"])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = weights(tmp_path / "killed")
    assert (left["epoch"], left["step"] > 0) == (1, True)

    def whole(folder: Path) -> None:
        tiny.train(folder, model, settings, data=tiny.Squares(captions=2), validation=tiny.Squares(copies=1))

    whole(tmp_path / "killed")
    whole(tmp_path / "whole")
    resumed, once = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert resumed["epoch"] == once["epoch"] == 3
    for name, value in once["model"].items():
        assert torch.equal(resumed["model"][name], value), name
    for record, other in zip(resumed["history"], once["history"]):
        assert {**record, "seconds": 0} == {**other, "seconds": 0}
    exported = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("killed", "whole")]
    assert exported[0] == exported[1]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_two_processes_train_as_one(tiny, script, exact_model, tmp_path):
    stages = [{"epochs": 1, "freeze": "vision"}, {"epochs": 2}]
    # Adam's epsilon is above rounding errors, which it would else blow up.
    settings = {"stages": stages, "accumulate": 2, "epsilon": 1e-3, "clip_gradient": 1.0, "positives": "known"}
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    arguments = [str(script), str(tmp_path / "two"), str(exact_model), json.dumps(settings), "--validate"]
    two = run([sys.executable, *launch, *arguments])
    assert two.returncode == 0, two.stderr
    tiny.train(tmp_path / "one", exact_model, settings, validation=tiny.Squares(copies=1))
    together, alone = weights(tmp_path / "two"), weights(tmp_path / "one")
    for name, value in alone["model"].items():
        torch.testing.assert_close(together["model"][name], value, atol=1e-6, rtol=0, msg=name)
    for record, other in zip(together["history"], alone["history"], strict=True):
        assert {**record, "seconds": 0} == pytest.approx({**other, "seconds": 0}, abs=1e-5)


def test_a_batch_that_processes_cannot_share_is_refused(tiny, model, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(ConfigError, match="batch_size: 8 pairs cannot be divided among 3 processes in 2 parts each"):
        tiny.train(tmp_path, model, {"accumulate": 2})

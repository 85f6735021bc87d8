"""Two processes under torchrun train the same model as one on the same batches."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from heritage_align.training.job import TrainingOutcome

ROOT = Path(__file__).parents[3]


def test_two_processes_train_as_one(
    write: Callable[..., dict[str, Any]], train: Callable[..., TrainingOutcome], tmp_path: Path
) -> None:
    """Without dropout, which differs by process, and without the word level, whose mean is taken process by process."""
    document = write(
        text={"width": 16, "heads": 2, "dropout": 0.0},
        word_dropout=0.0,
        image_dropout=0.0,
        teacher={"epochs": 1, "word_weight": 0.0},
    )
    (tmp_path / "cl2cm.yaml").write_text(yaml.safe_dump(document))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    command = ["-m", "heritage_align", "train", str(tmp_path / "cl2cm.yaml"), "--out", str(tmp_path / "two")]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launch, *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    one = train(document, tmp_path / "one")
    assert one.metrics["loss_relations"] > 0
    for stage in ("teacher", "."):
        states = [torch.load(tmp_path / run / stage / "last.pt", weights_only=True) for run in ("one", "two")]
        losses = [[record["loss"] for record in state["history"]] for state in states]
        assert losses[1] == pytest.approx(losses[0], rel=1e-3)
        for key, value in states[0]["model"].items():
            if not key.endswith("in_proj_bias"):  # that of the keys has no gradient but rounding, which Adam enlarges
                torch.testing.assert_close(states[1]["model"][key], value, rtol=2e-3, atol=2e-4)


def test_as_many_rows_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from heritage_align_plugins.cl2cm import pairs

    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(pairs.distributed, "world_size", lambda: 2)
        monkeypatch.setattr(pairs.distributed, "rank", lambda rank=rank: rank)
        shares.append(pairs.epoch_batches(torch.arange(11), 5, seed=0))
    monkeypatch.undo()
    whole = pairs.epoch_batches(torch.arange(11), 5, seed=0)
    assert [[len(batch) for batch in share] for share in shares] == [[2, 2], [2, 2]]
    for batch, first, second in zip(whole, *shares):
        assert torch.equal(torch.cat([first, second]), batch[:4])

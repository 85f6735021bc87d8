"""Two processes under torchrun, on CPUs, against one."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from heritage_align.training import distributed
from heritage_align.training.state import LAST

WORK = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def answers(run_script: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes computed (`two_processes.py`)."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launch = ("-m", "torch.distributed.run", "--nproc-per-node", 2, "--master-port", port)
    done = run_script(*launch, WORK, folder)
    assert done.returncode == 0, done.stderr
    found = [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]
    return {"folder": folder, "ranks": found}


def test_gathered_gradients_averaged_are_those_of_one_process(answers: dict[str, Any]) -> None:
    """The loss is no sum over rows: each process's rows alone would give other gradients."""
    one = torch.nn.Linear(3, 2)
    rows = torch.arange(12.0).reshape(4, 3).sin()
    with torch.no_grad():
        one.weight.copy_(torch.arange(6.0).reshape(2, 3).cos())
        one.bias.zero_()
    out = one(rows)
    loss = torch.logsumexp(out @ out.T, dim=1).prod()
    loss.backward()
    for found in answers["ranks"]:
        assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert one.weight.grad is not None
        torch.testing.assert_close(torch.tensor(found["weight"]), one.weight.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.tensor(found["bias"]), one.bias.grad, rtol=1e-4, atol=1e-5)


def test_rows_come_in_the_order_of_ranks(answers: dict[str, Any]) -> None:
    for rank, found in enumerate(answers["ranks"]):
        assert (found["rank"], found["world"]) == (rank, 2)
        assert found["gathered"] == [[0.0, 10.0], [1.0, 11.0]]


def test_a_part_that_one_process_did_not_use_gets_half(answers: dict[str, Any]) -> None:
    for found in answers["ranks"]:
        assert found["unused"] == [1.5, 1.5]  # a gradient of 3 in process 1, none in process 0
        assert found["frozen"] is None
        assert found["double"] == [[2.0], "torch.float64"]


def test_the_first_process_decides(answers: dict[str, Any]) -> None:
    assert [found["decided"] for found in answers["ranks"]] == [70.25, 70.25]


def test_two_processes_train_the_toy_as_one(answers: dict[str, Any], toy: ModuleType, tmp_path: Path) -> None:
    one = toy.train(tmp_path, toy.Points(dropout=0.0))
    two = torch.load(answers["folder"] / "run" / LAST, weights_only=True)
    for name, value in one.model.items():
        torch.testing.assert_close(two["model"][name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert [r["loss"] for r in two["history"]] == pytest.approx([r["loss"] for r in one.history], rel=1e-4)


def test_in_one_process_nothing_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.process_group("cpu") as device:
        assert device == "cpu"
        assert not torch.distributed.is_initialized()
        assert (distributed.rank(), distributed.world_size()) == (0, 1)
    rows = torch.ones(2, 3, requires_grad=True)
    assert distributed.gather(rows) is rows
    rows.sum().backward()
    distributed.average_gradients([rows])
    assert torch.equal(rows.grad, torch.ones(2, 3))
    assert distributed.from_first(3.5) == 3.5
    distributed.barrier()

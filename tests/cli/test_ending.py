"""How a command ends when the world outside of it changes: a closed pipe, Ctrl-C, a full disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from heritage_align.cli import cli

COMMAND = [sys.executable, "-m", "heritage_align"]


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    process = subprocess.Popen([*COMMAND, "config", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # long before Python has started
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 1


def test_ctrl_c_ends_a_build_with_130_and_the_build_goes_on_later(scan_file: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    build = [*COMMAND, "index", "build", str(scan_file), "--out", str(store), "--set", "store.shard_images=1"]
    build += ["--set", "proposer.count=200"]  # seconds of work, so that the signal comes before its end
    # A shell ignores Ctrl-C for what it runs in the background, and a child would inherit that.
    listen_to_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        build, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_ctrl_c
    )
    deadline = time.monotonic() + 60
    while not (store / "shard-00000.safetensors").exists():
        assert process.poll() is None, "the build ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    output, messages = process.communicate(timeout=60)
    assert process.returncode == 130, messages
    assert output == ""
    assert messages.splitlines()[-1] == "interrupted"
    assert "Traceback" not in messages
    assert not (store / "manifest.json").exists()
    assert not list(store.glob(".*.tmp"))
    assert subprocess.run(build, capture_output=True).returncode == 0
    assert (store / "manifest.json").exists()


@pytest.mark.parametrize(
    ("fault", "message", "status"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "store/x"), "error: store/x: No space left on device\n", 2),
        (OSError("no number and no name"), "error: no number and no name\n", 2),
        (KeyboardInterrupt(), "\ninterrupted\n", 130),
    ],
)
def test_faults_from_outside(monkeypatch: pytest.MonkeyPatch, fault: BaseException, message: str, status: int) -> None:
    def fail(*_: object) -> click.Command:
        raise fault

    monkeypatch.setattr(type(cli), "get_command", fail)
    result = CliRunner().invoke(cli, ["doctor"])
    assert (result.stderr, result.exit_code) == (message, status)
    assert result.stdout == ""


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> click.Command:
        raise RuntimeError("a bug")

    monkeypatch.setattr(type(cli), "get_command", fail)
    assert isinstance(CliRunner().invoke(cli, ["doctor"]).exception, RuntimeError)

"""A disk that is full, a quota, a folder that cannot be written: one line, and nothing that was written is lost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from heritage_align.errors import StoreError
from heritage_align.pipeline import Pipeline
from heritage_align.store import verify
from heritage_align.store.files import write_atomically
from heritage_align.training.state import TrainingState, save_state


def limited(size: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line where no file may be larger than `size` bytes: writing fails as on a full disk."""
    return subprocess.run(
        [sys.executable, "-m", "heritage_align", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_build_that_found_no_room_says_so_in_one_line_and_goes_on_later(scan: Pipeline, tmp_path: Path) -> None:
    # Three shards of four, four and three pictures: the last one is the smallest.
    config, store, whole = tmp_path / "c.yaml", tmp_path / "store", tmp_path / "whole"
    config.write_text(yaml.safe_dump(scan.config.as_dict()), encoding="utf-8")
    data = scan.config.as_dict()["data"]["folder"]
    build = ("index", "build", config, "--data", data, "--out")
    assert limited(2**30, *build, whole).returncode == 0
    sizes = [file.stat().st_size for file in sorted(whole.glob("shard-*"))]
    done = limited(min(sizes) - 1, *build, store)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "shard-00000.safetensors: cannot be written: File too large" in said
    assert {file.name for file in store.iterdir()} == {"build.json", "config.yaml"}  # no half-written file stays
    assert limited(2**30, *build, store).returncode == 0
    assert list(verify(store)) == []
    for file in whole.glob("shard-*"):
        assert (store / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_file({"a": torch.zeros(10_000)}, path),
        lambda path: torch.save({"a": torch.zeros(10_000)}, path),
        lambda path: path.write_bytes(bytes(40_000)),
    ],
)
def test_every_library_that_writes_has_its_error_told_alike(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "w"
    write_atomically(path, write)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StoreError, match=f"{path}: cannot be written: (File too large|the file could not be)"):
            write_atomically(path, write)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["w"]


def test_a_checkpoint_of_a_run_keeps_the_one_before(tmp_path: Path) -> None:
    save_state(TrainingState("i", 3, epoch=1), tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StoreError, match=r"last\.pt: cannot be written: the file could not be .* MiB are free"):
            save_state(TrainingState("i", 3, epoch=2, model={"w": torch.zeros(9999)}), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_fault_of_the_writer_itself_stays_what_it_is(tmp_path: Path) -> None:
    def wrong(_: Path) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        write_atomically(tmp_path / "w", wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match=r"file/w: cannot be written: Not a directory"):
        write_atomically(tmp_path / "file/w", lambda path: path.write_text("x", encoding="utf-8"))
    with pytest.raises(StoreError, match=r"gone/w: cannot be written: No such file"):
        write_atomically(tmp_path / "gone/w", lambda path: path.write_text("x", encoding="utf-8"))

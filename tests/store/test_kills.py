"""SIGKILL at random points, and a disk that fills up: nothing is lost, nothing wrong is served, one clear error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from heritage_align.errors import StoreError
from heritage_align.indexing import build_index
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.search import Searcher
from heritage_align.store import verify
from heritage_align.types import TextItem
from heritage_align.updating import update_index

ROUNDS = int(os.environ.get("HERITAGE_ALIGN_KILLS", "5"))
"""Builds and updates that are killed; 50 were, by hand, when this was written."""


def test_kills_at_random_points_lose_nothing(scan: Pipeline, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(scan.config.as_dict()), encoding="utf-8")
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run(
        [sys.executable, str(script), str(config), str(tmp_path), str(ROUNDS), str(ROUNDS)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    met = json.loads(done.stdout)
    assert sum(met.values()) >= ROUNDS, f"of {2 * ROUNDS} kills too few met the work: {met}"


def test_a_full_disk_ends_a_build_and_loses_nothing(
    scan: Pipeline, tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    sources = list(dataset_sources(scan.dataset()))
    build_index(scan, sources, tmp_path / "whole")
    shards = sorted((tmp_path / "whole").glob("shard-*"))
    room = sum(-(-file.stat().st_size // 4096) for file in shards) * 4096
    disk = small_disk(room)  # all shards, but not what says of what
    with pytest.raises(StoreError, match=r"cannot be written: No space left on device \(\d+ MiB are free\)"):
        build_index(scan, sources, disk / "store")
    there = sorted((disk / "store").glob("shard-*"))
    assert there
    assert all(file.read_bytes() == (tmp_path / "whole" / file.name).read_bytes() for file in there)
    with pytest.raises(StoreError, match="half built; run the same index build again"):
        Searcher.open(scan, disk / "store")
    small_disk(16 * room)
    report = build_index(scan, sources, disk / "store")
    assert report.found == len(there)
    assert list(verify(disk / "store")) == []


def test_a_full_disk_ends_an_update_and_the_store_is_as_it_was(
    scan: Pipeline, small_disk: Callable[[int], Path]
) -> None:
    sources = list(dataset_sources(scan.dataset()))
    disk = small_disk(2**20)
    build_index(scan, sources[:5], disk / "store")
    used = sum(-(-file.stat().st_size // 4096) for file in (disk / "store").iterdir()) * 4096
    small_disk(used + 4096)
    query = [TextItem("q", "缠枝莲")]
    before = Searcher.open(scan, disk / "store").search(query)
    with pytest.raises(StoreError, match="No space left on device"):
        update_index(scan, sources, disk / "store")
    assert list(verify(disk / "store")) == []
    assert Searcher.open(scan, disk / "store").search(query) == before
    small_disk(2**20)
    assert update_index(scan, sources, disk / "store").images == 10
    assert list(verify(disk / "store")) == []

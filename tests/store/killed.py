"""SIGKILL at random points of a build and of an update: run by test_kills.py, each round in a process of its own.

    python killed.py CONFIG.yaml FOLDER ROUNDS SEED

Processes are forked off this one, which has imported everything and begun no thread, so that a kill meets the work and
not the imports. Prints what was met, as JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heritage_align import ImageSource, Pipeline, Searcher, Store, TextItem, build_index, dataset_sources, update_index
from heritage_align.errors import StoreError
from heritage_align.store import verify
from heritage_align.types import Run

QUERY = [TextItem("q", "缠枝莲，two cranes")]


def draw(folder: Path, name: str, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name)


def forked(work: Callable[[], object], kill_after: float | None = None) -> tuple[bool, float]:
    """Do work in a process that is killed after some seconds; returns whether it was, and how long it took."""
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, "the work failed by itself"
    assert killed is False or kill_after is not None
    return killed, time.perf_counter() - start


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")} if folder.exists() else {}


def answers(pipeline: Pipeline, folder: Path) -> Run:
    with Searcher.open(pipeline, folder) as searcher:
        return searcher.search(QUERY)


class Rounds:
    """A collection as it was and as it is, the stores of both, and what rounds may leave."""

    def __init__(self, config: str, folder: Path) -> None:
        pictures = folder / "pictures"
        pictures.mkdir()
        for number in range(12):
            draw(pictures, f"p{number}.png", number)
        (pictures / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
        self.pipeline = Pipeline.from_config(config, [f"data.folder={pictures}", "runtime.workers=2"])
        self.folder, self.before, self.fresh = folder, folder / "before", folder / "fresh"
        self.build_seconds = forked(lambda: self.build(self.before))[1]
        (pictures / "p2.png").unlink()
        draw(pictures, "p5.png", 55)
        for number in range(6):
            draw(pictures, f"new{number}.png", 100 + number)
        self.after = folder / "after"
        shutil.copytree(self.before, self.after)
        self.update_seconds = forked(lambda: self.update(self.after))[1]
        forked(lambda: self.build(self.fresh))
        self.met: Counter[str] = Counter()

    def sources(self) -> list[ImageSource]:
        return dataset_sources(self.pipeline.dataset())

    def build(self, store: Path) -> None:
        build_index(self.pipeline, self.sources(), store)

    def update(self, store: Path) -> None:
        update_index(self.pipeline, self.sources(), store)

    def kill_build(self, after: float) -> None:
        """Kill a build, look, go on."""
        store, whole = self.folder / "store", files(self.fresh)
        killed, _ = forked(lambda: self.build(store), after)
        there = files(store)
        wrong = [name for name in there if there[name] != whole[name]]
        assert not wrong, f"not as they should be: {wrong}"
        shards = sum(name.startswith("shard-") for name in there)
        self.met[f"build: {'manifest' if 'manifest.json' in there else f'{shards} shards'}"] += killed
        if "manifest.json" in there:
            assert there == whole
            Store.open(store, expect=self.pipeline.identity())
        else:
            with pytest.raises(StoreError, match="there is no store|half built; run the same|holds no store"):
                Store.open(store)
        times = {name: (store / name).stat().st_mtime_ns for name in there if name.startswith("shard-")}
        forked(lambda: self.build(store))
        assert files(store) == whole
        assert {name: (store / name).stat().st_mtime_ns for name in times} == times, "a whole shard was made again"
        assert list(verify(store)) == []
        assert not list(store.glob(".*")), "something is left of the killed build"
        shutil.rmtree(store)

    def kill_update(self, after: float) -> None:
        """Kill an update, look, go on; a reader that was open all the time must not notice."""
        store, old, new = self.folder / "store", files(self.before), files(self.after)
        shutil.copytree(self.before, store)
        killed, _ = forked(lambda: self.update(store), after)
        there = files(store)
        state = "before" if there["manifest.json"] == old["manifest.json"] else "after"
        self.met[f"update: {state}, {sum(n not in old for n in there)} new files"] += killed
        assert there["manifest.json"] == (old if state == "before" else new)["manifest.json"]
        lost = [name for name in old if name.startswith("shard-") and there.get(name) != old[name]]
        assert not lost, f"shards that open readers use are not as they were: {lost}"
        assert list(verify(store)) == []
        assert Store.open(store, expect=self.pipeline.identity()).ids == Store.open(self.folder / state).ids
        forked(lambda: self.same_answers(store, self.folder / state))
        forked(lambda: self.update(store))
        assert files(store) == new
        assert not list(store.glob(".*")), "something is left of the killed update"
        shutil.rmtree(store)

    def same_answers(self, store: Path, other: Path) -> None:
        assert answers(self.pipeline, store) == answers(self.pipeline, other)


def main() -> None:
    config, folder, rounds, seed = sys.argv[1:]
    draws, work = random.Random(int(seed)), Rounds(config, Path(folder))
    for _ in range(int(rounds)):
        work.kill_build(draws.uniform(0, work.build_seconds))
        work.kill_update(draws.uniform(0, work.update_seconds))
    print(json.dumps(work.met))


if __name__ == "__main__":
    main()

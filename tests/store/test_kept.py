"""An index that is kept beside a store: built once, found again, and never taken for that of another store."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from heritage_align_plugins.faiss_index.index import FILE, FaissIndex, FaissSearch
from heritage_align_plugins.qdrant_index.index import QdrantSearch
from PIL import Image
from safetensors.torch import load_file, save_file

from heritage_align.cli import cli
from heritage_align.errors import Note, StoreError
from heritage_align.indexing import build_index
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.search import Detail, Searcher, rank, search
from heritage_align.search.first_stage import keeper_of
from heritage_align.search.relevance import depth_of
from heritage_align.store import Store, verify
from heritage_align.store.kept import ABOUT, kept_folders
from heritage_align.types import TextItem
from heritage_align.updating import compact, update_index

Draw = Callable[[Path, str, int], None]
FAISS = {"name": "faiss", "kind": "ivf", "nlist": 2, "nprobe": 2}
QUERIES = [TextItem("a", "蓝地，白鹤"), TextItem("b", "a pair of cranes, clouds")]


def pipeline_of(like: Pipeline, folder: Path, **more: Any) -> Pipeline:
    document = {**like.config.as_dict(), "index": FAISS, **more}
    return Pipeline.from_config(document, [f"data.folder={folder}"])


def build(pipeline: Pipeline, store: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        build_index(pipeline, list(dataset_sources(pipeline.dataset())), store)


@pytest.fixture
def store(tmp_path: Path, scan: Pipeline, folder: Path) -> Path:
    """A store of the nine pictures, with the index of its first stage."""
    build(pipeline_of(scan, folder), tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize("similarity", ["scan", "laclip", "global"])
@pytest.mark.parametrize("index", [FAISS, {"name": "qdrant"}, {"name": "faiss", "kind": "hnsw"}], ids=str)
def test_candidates_of_another_engine_are_answered_by_our_scores(
    scan: Pipeline, folder: Path, tmp_path: Path, similarity: str, index: dict[str, Any]
) -> None:
    with_engine = pipeline_of(scan, folder, similarity={"name": similarity}, index=index)
    build(with_engine, tmp_path / "store")
    exact = Pipeline.from_config({**with_engine.config.as_dict(), "index": {"name": "exact"}})
    [kept] = kept_folders(tmp_path / "store")
    picture = Image.open(folder / "p4.png").convert("RGB")
    with warnings.catch_warnings():
        # No second build for the first stage; over LACLIP's folded vectors whole pictures have an index of their own.
        warnings.simplefilter("error" if similarity != "laclip" else "default")
        with Searcher.open(with_engine, tmp_path / "store") as one, Searcher.open(exact, tmp_path / "store") as other:
            for top_k in (3, 9, 50):
                found, wanted = (s.search(QUERIES, top_k=top_k, candidates=9) for s in (one, other))
                assert found.ids == wanted.ids
                assert np.allclose(found.scores, wanted.scores, atol=1e-6)
            found, wanted = (s.search_images([picture], ["p"], top_k=4) for s in (one, other))
            assert found.ids == wanted.ids
            assert found.ids[0][0] == "p4.png"
            details = [s.search_details([Detail(picture, "d", (5, 5, 30, 30))], top_k=4) for s in (one, other)]
            assert details[0] == details[1]
    assert kept in kept_folders(tmp_path / "store")
    assert not list(verify(tmp_path / "store"))


def test_how_far_a_search_looks_builds_nothing_and_how_it_is_made_does(
    scan: Pipeline, folder: Path, store: Path
) -> None:
    before = kept_folders(store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Searcher.open(pipeline_of(scan, folder, index={**FAISS, "nprobe": 1}), store).close()
    assert kept_folders(store) == before
    with pytest.warns(Note, match=r"index-\w{16}: is not there; faiss builds it, once, of 9 pictures"):
        Searcher.open(pipeline_of(scan, folder, index={**FAISS, "nlist": 1}), store).close()
    assert len(kept_folders(store)) == 2  # both are of this store: the other is somebody's


@pytest.mark.parametrize("index", [FAISS, {"name": "qdrant"}], ids=str)
def test_a_search_that_is_under_way_when_the_searcher_is_closed_ends(
    monkeypatch: pytest.MonkeyPatch, scan: Pipeline, folder: Path, tmp_path: Path, index: dict[str, Any]
) -> None:
    """A service closes the searcher of a store that was updated while its last requests are answered."""
    pipeline = pipeline_of(scan, folder, index=index)
    build(pipeline, tmp_path / "store")
    asked, closed = threading.Event(), threading.Event()
    engine = FaissSearch if index["name"] == "faiss" else QdrantSearch
    search = engine.search

    def slow(self: Any, *arguments: Any) -> Any:
        asked.set()
        assert closed.wait(20)
        return search(self, *arguments)

    searcher = Searcher.open(pipeline, tmp_path / "store")
    expected = searcher.search(QUERIES, top_k=4)
    [opened] = searcher._first_stage._opened.values()  # type: ignore[union-attr]
    monkeypatch.setattr(engine, "search", slow)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(searcher.search, QUERIES, top_k=4)
        assert asked.wait(20)
        searcher.close()
        closed.set()
        assert answer.result().scores == expected.scores
    monkeypatch.setattr(engine, "search", search)
    with pytest.raises((AttributeError, RuntimeError)):  # who was the last has closed it
        opened.kept.search(torch.ones(1, searcher.store.manifest.dim), 1)
    assert searcher.search(QUERIES, top_k=4).scores == expected.scores  # opened again
    searcher.close()


def test_an_update_builds_it_again_and_open_searchers_go_on(
    scan: Pipeline, folder: Path, store: Path, draw: Draw
) -> None:
    pipeline = pipeline_of(scan, folder)
    before = kept_folders(store)
    with Searcher.open(pipeline, store) as opened:
        first = opened.search(QUERIES, top_k=9)
        draw(folder, "new.png", 77)
        (folder / "p0.png").unlink()
        with pytest.warns(Note, match="faiss builds it, once, of 9 pictures"):
            update_index(pipeline, list(dataset_sources(pipeline.dataset())), store)
        assert opened.search(QUERIES, top_k=9).ids == first.ids
        after = kept_folders(store)
        assert len(after) == 1
        assert after != before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Searcher.open(pipeline, store) as again:
            ids = again.search(QUERIES, top_k=9).ids
    assert all(set(line) == {*(f"p{n}.png" for n in range(1, 9)), "new.png"} for line in ids)
    compact(store)
    with pytest.warns(Note, match="is not there"), Searcher.open(pipeline, store) as compacted:
        assert compacted.search(QUERIES, top_k=9).ids == ids
    assert len(kept_folders(store)) == 1, "that of the store before it was compacted is gone"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda kept: (kept / FILE).write_bytes((kept / FILE).read_bytes()[:-9]), "is damaged: vectors.faiss is miss"),
        (lambda kept: (kept / FILE).unlink(), "is damaged: vectors.faiss is missing or cut"),
        (lambda kept: (kept / ABOUT).write_text("{"), "is damaged: .*about.json: is not JSON"),
        (lambda kept: (kept / ABOUT).write_text('{"format": 1, "files": 3}'), "is damaged: about.json: TypeError"),
        (lambda kept: (kept / ABOUT).write_text('{"format": 2}'), "is of format 2, this version reads 1"),
        (shutil.rmtree, "is not there"),
    ],
)
def test_what_is_not_whole_is_named_and_made_anew(
    harm: Callable[[Path], object], said: str, scan: Pipeline, folder: Path, store: Path
) -> None:
    [kept] = kept_folders(store)
    harm(kept)
    faults = list(verify(store))
    assert len(faults) == (0 if said == "is not there" else 1)
    assert all(str(kept) in fault and "makes it anew" in fault for fault in faults)
    with pytest.warns(Note, match=said), Searcher.open(pipeline_of(scan, folder), store) as searcher:
        assert len(searcher.search(QUERIES, top_k=9).ids[0]) == 9
    assert kept_folders(store) == [kept]
    assert not list(verify(store))


def test_a_changed_byte_is_what_verify_finds(store: Path) -> None:
    [kept] = kept_folders(store)
    content = bytearray((kept / FILE).read_bytes())
    content[-5] ^= 1
    (kept / FILE).write_bytes(content)
    [fault] = verify(store)
    assert f"the content of {FILE} changed" in fault


def test_an_engine_that_has_lost_its_part_is_filled_again(
    monkeypatch: pytest.MonkeyPatch, scan: Pipeline, folder: Path, store: Path
) -> None:
    pipeline, opened = pipeline_of(scan, folder), FaissIndex.open
    lost = [True]

    def once(self: FaissIndex, kept: Path) -> Any:
        if lost.pop():
            lost.append(False)
            raise StoreError("the server lost it")
        return opened(self, kept)

    monkeypatch.setattr(FaissIndex, "open", once)
    with pytest.warns(Note, match="the server lost it; faiss builds it"), Searcher.open(pipeline, store) as searcher:
        assert len(searcher.search(QUERIES, top_k=9).ids[0]) == 9
    monkeypatch.setattr(FaissIndex, "open", lambda *_: (_ for _ in ()).throw(StoreError("gone for good")))
    with pytest.warns(Note), pytest.raises(StoreError, match="gone for good"):
        Searcher.open(pipeline, store)


def test_a_fault_of_the_building_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, scan: Pipeline, folder: Path, store: Path
) -> None:
    pipeline = pipeline_of(scan, folder)
    [kept] = kept_folders(store)
    shutil.rmtree(kept)

    def full(_index: FaissIndex, _blocks: Any, into: Path) -> None:
        (into / FILE).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FaissIndex, "build", full)
    with pytest.warns(Note), pytest.raises(StoreError, match=r"index-\w+: faiss cannot keep its index there: No space"):
        Searcher.open(pipeline, store)
    assert not [path for path in store.iterdir() if "index-" in path.name]
    Searcher.open(Pipeline.from_config({**pipeline.config.as_dict(), "index": {"name": "exact"}}), store).close()


@pytest.mark.parametrize("index", [FAISS, {"name": "faiss", "kind": "hnsw"}, {"name": "qdrant"}], ids=str)
def test_a_full_disk_is_one_error_and_the_store_stays(
    scan: Pipeline, folder: Path, store: Path, small_disk: Callable[[int], Path], index: dict[str, Any]
) -> None:
    disk = small_disk(4 * sum(file.stat().st_size for file in store.glob("*.*")) + 2**17)
    shutil.copytree(store, disk / "store", ignore=shutil.ignore_patterns("index-*"))
    free = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_bsize))
    pipeline = pipeline_of(scan, folder, index=index)
    with pytest.warns(Note), pytest.raises(StoreError, match=r"No space left|cannot be written") as told:
        Searcher.open(pipeline, disk / "store")
    assert str(disk / "store") in str(told.value)
    assert not list((disk / "store").glob("*index-*"))
    (disk / "filler").unlink()
    with pytest.warns(Note), Searcher.open(pipeline, disk / "store") as searcher:
        assert len(searcher.search(QUERIES, top_k=9).ids[0]) == 9
    del told, searcher
    gc.collect()  # what is mapped keeps the disk from being taken away


def test_vectors_that_are_not_finite_are_named_with_their_shard(scan: Pipeline, folder: Path, store: Path) -> None:
    pipeline, shard = (
        pipeline_of(scan, folder, index={"name": "faiss", "kind": "flat"}),
        store / "shard-00001.safetensors",
    )
    tensors = load_file(shard)
    tensors["global"][2, 3] = torch.nan
    with shard.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        metadata = json.loads(stream.read(length))["__metadata__"]
    save_file(tensors, shard, metadata)
    with pytest.warns(Note), pytest.raises(StoreError, match=r"shard-00001\.safetensors: 'global' holds NaN"):
        Searcher.open(pipeline, store)
    assert len(kept_folders(store)) == 1


def test_two_at_once_build_one(monkeypatch: pytest.MonkeyPatch, scan: Pipeline, folder: Path, store: Path) -> None:
    pipeline, build = pipeline_of(scan, folder), FaissIndex.build
    [kept] = kept_folders(store)
    shutil.rmtree(kept)
    built, opened, waiting = [], [], threading.Event()

    def slowly(self: FaissIndex, blocks: Any, into: Path) -> None:
        built.append(into)
        waiting.wait(1)
        build(self, blocks, into)

    monkeypatch.setattr(FaissIndex, "build", slowly)
    keeper, there = keeper_of(pipeline), Store.open(store)
    assert keeper is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = [threading.Thread(target=lambda: opened.append(keeper.open(there, "global"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        waiting.set()
        for thread in threads:
            thread.join()
    assert len(built) == 1
    assert len(opened) == 3
    assert kept_folders(store) == [kept]


KILLED = """
import os, signal, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from heritage_align_plugins.faiss_index.index import FILE, FaissIndex
from heritage_align.protocols import BuildContext
from heritage_align_plugins.faiss_index.config import FaissIndexConfig
from heritage_align.store import Store
from heritage_align.store.kept import Keeper
def build(self, blocks, folder):
    (folder / FILE).write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
FaissIndex.build = build
index = FaissIndex(FaissIndexConfig(kind="ivf", nlist=2, nprobe=2), BuildContext())
Keeper("faiss", index).keep(Store.open(sys.argv[1]), "global")
"""


def test_a_kill_leaves_what_the_next_one_clears(scan: Pipeline, folder: Path, store: Path) -> None:
    [kept] = kept_folders(store)
    shutil.rmtree(kept)
    done = subprocess.run([sys.executable, "-c", KILLED, str(store)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (store / f".{kept.name}.tmp" / FILE).read_bytes() == b"half"
    assert not list(verify(store))
    with pytest.warns(Note, match="is not there"), Searcher.open(pipeline_of(scan, folder), store) as searcher:
        assert len(searcher.search(QUERIES, top_k=9).ids[0]) == 9
    assert not list(store.glob(".index-*"))


def test_a_calibration_is_of_the_candidates_that_an_engine_hands_on(
    scan: Pipeline, folder: Path, tmp_path: Path
) -> None:
    pipeline = pipeline_of(scan, folder, similarity={"name": "global"})
    build(pipeline, tmp_path / "store")
    opened = Store.open(tmp_path / "store")
    exact = Pipeline.from_config({**pipeline.config.as_dict(), "index": {"name": "exact"}})
    assert depth_of(exact, opened, 5) is None
    assert depth_of(pipeline, opened, 5) == 5
    assert depth_of(pipeline, opened, 100) == 9


def test_what_needs_no_first_stage_builds_none(scan: Pipeline, folder: Path, store: Path) -> None:
    pipeline = pipeline_of(scan, folder)
    shutil.rmtree(kept_folders(store)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(rank(pipeline, Store.open(store), "白鹤", ["p1.png", "p7.png"])) == 2
    with pytest.warns(Note, match="is not there"):
        assert len(search(pipeline, Store.open(store), QUERIES, top_k=3).ids[1]) == 3


def test_the_commands_build_it_and_say_so(scan: Pipeline, folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(pipeline_of(scan, folder).config.to_yaml())
    done = CliRunner().invoke(cli, ["index", "build", str(config), "--out", str(tmp_path / "store")])
    assert done.exit_code == 0, done.output
    assert "faiss builds it, once, of 9 pictures" in done.stderr
    [kept] = kept_folders(tmp_path / "store")
    shutil.rmtree(kept)
    done = CliRunner().invoke(cli, ["index", "build", str(config), "--out", str(tmp_path / "store")])
    assert "3 were there" in done.stdout
    assert kept.exists(), "nothing was to be encoded, and the index was made"
    done = CliRunner().invoke(cli, ["search", str(config), "--store", str(tmp_path / "store"), "白鹤"])
    assert done.exit_code == 0, done.output
    assert "builds it" not in done.stderr

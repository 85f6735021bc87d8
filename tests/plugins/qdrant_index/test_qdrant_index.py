"""Qdrant: the client by itself in memory, and the same calls to a server.

No server's binary is to be had from PyPI, npm or Debian. So calls to one are made to a collection of the client's own,
which stays from one connection to the next as a server's does: what is uploaded, asked and deleted is tested, and what
a real server answers is not, but for one that is away.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from heritage_align_plugins.exact_index.config import ExactIndexConfig
from heritage_align_plugins.exact_index.index import ExactIndex
from heritage_align_plugins.qdrant_index.config import QdrantIndexConfig
from heritage_align_plugins.qdrant_index.index import COLLECTION, VECTORS, QdrantIndex
from qdrant_client import QdrantClient
from torch import Tensor

from heritage_align.errors import MissingDependency, Note, StoreError
from heritage_align.indexing import build_index
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.plugins import default_registry
from heritage_align.protocols import BuildContext, KeptIndex
from heritage_align.search import Searcher
from heritage_align.types import TextItem
from heritage_align.updating import update_index

URL = "http://127.0.0.1:6333"


def index_of(**values: Any) -> QdrantIndex:
    return QdrantIndex(QdrantIndexConfig(**values), BuildContext())


def vectors_of(count: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, 12, generator=draw) * (1 + 5 * torch.rand(count, 1, generator=draw))


def exact(blocks: list[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return ExactIndex(ExactIndexConfig(), BuildContext()).search(blocks, queries, k)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> QdrantClient:
    """What every connection to a server reaches."""
    there = QdrantClient(":memory:")

    class Connection:
        def __init__(self, location: str | None = None, *, url: str | None = None, **settings: Any) -> None:
            self._to = there if url is not None else QdrantClient(location)
            assert url in (None, URL)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._to, name)

        def close(self) -> None:
            """Leave the collections."""

    monkeypatch.setattr("heritage_align_plugins.qdrant_index.index.QdrantClient", Connection)
    return there


def test_embedded_answers_are_exact_over_vectors_of_any_length(tmp_path: Path) -> None:
    blocks = [part.half() for part in vectors_of(600).split([0, 250, 350])]
    queries = vectors_of(9, 1)
    index = index_of()
    assert isinstance(index, KeptIndex)
    index.build(blocks, tmp_path)
    first, second = index.open(tmp_path), index.open(tmp_path)  # two processes would do the same
    for kept in (first, second):
        rows, scores = kept.search(queries, 20)
        wanted_rows, wanted = exact(blocks, queries, 20)
        assert torch.equal(rows, wanted_rows)
        torch.testing.assert_close(scores, wanted)
        assert kept.search(queries, 900)[0].shape == (9, 600)
    first.close()


BUILDS = """
import sys, torch
from collections.abc import Callable
from pathlib import Path
from heritage_align.plugin import BuildContext
from heritage_align_plugins.qdrant_index.config import QdrantIndexConfig
from heritage_align_plugins.qdrant_index.index import QdrantIndex
try:
    QdrantIndex(QdrantIndexConfig(), BuildContext()).build([torch.ones(500, 512)] * 2, Path(sys.argv[1]))
except OSError as error:
    sys.exit(error.strerror)
"""


def test_a_disk_that_fills_up_is_an_error_and_no_signal(small_disk: Callable[[int], Path]) -> None:
    """In a process of its own: what is written through a mapping ends it (SIGBUS)."""
    ended = subprocess.run(
        [sys.executable, "-c", BUILDS, str(small_disk(2**18))], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr.strip()) == (1, "No space left on device")


def test_equal_scores_go_by_row(tmp_path: Path) -> None:
    vectors = torch.tensor([[1.0, 0], [0, 1]]).repeat(30, 1)
    index_of().build([vectors], tmp_path)
    rows, _ = index_of().open(tmp_path).search(torch.tensor([[1.0, 0]]), 10)
    assert rows.tolist() == [list(range(0, 20, 2))]


def test_a_server_holds_the_collection_until_it_is_dropped(server: QdrantClient, tmp_path: Path) -> None:
    blocks, queries = list(vectors_of(300).split(128)), vectors_of(4, 1)
    index = index_of(url=URL)
    index.build(blocks, tmp_path)
    kept = json.loads((tmp_path / COLLECTION).read_text())
    assert not (tmp_path / VECTORS).exists()
    assert [c.name for c in server.get_collections().collections] == [kept["collection"]]
    rows, _ = index.open(tmp_path).search(queries, 7)
    assert torch.equal(rows, exact(blocks, queries, 7)[0])
    index.build(blocks, tmp_path)  # as after a kill: the same name, and no point twice
    assert server.count(kept["collection"]).count == 300
    server.delete(kept["collection"], [0])
    with pytest.raises(StoreError, match=rf"{URL}: collection heritage_align_\w+ has 299 points, expected 300"):
        index.open(tmp_path)
    index.drop(tmp_path)
    assert not server.get_collections().collections
    with pytest.raises(StoreError, match=rf"{URL}: collection heritage_align_\w+ is not there"):
        index.open(tmp_path)


def test_a_store_fills_the_server_again_and_clears_it_after_an_update(
    server: QdrantClient, scan: Pipeline, pictures: Path, tmp_path: Path
) -> None:
    def names() -> list[str]:
        return [c.name for c in server.get_collections().collections]

    folder, store, texts = tmp_path / "pictures", tmp_path / "store", [TextItem("q", "蓝地，白鹤")]
    shutil.copytree(pictures, folder)
    document = {**scan.config.as_dict(), "index": {"name": "qdrant", "url": URL}}
    pipeline = Pipeline.from_config(document, [f"data.folder={folder}"])
    with pytest.warns(Note, match="is not there; qdrant builds it, once, of 10 pictures"):
        build_index(pipeline, list(dataset_sources(pipeline.dataset())), store)
    with Searcher.open(pipeline, store) as searcher:
        wanted = searcher.search(texts, top_k=10).ids
    [name] = names()
    for harm in (lambda: server.delete(name, [1, 2]), lambda: server.delete_collection(name)):
        harm()
        with pytest.warns(Note, match="collection heritage_align_.*; qdrant builds it"):
            searcher = Searcher.open(pipeline, store)
        assert searcher.search(texts, top_k=10).ids == wanted
        assert server.count(name).count == 10
    (folder / "p4.png").unlink()
    with pytest.warns(Note, match="qdrant builds it, once, of 9 pictures"):
        update_index(pipeline, list(dataset_sources(pipeline.dataset())), store)
    [after] = names()
    assert after != name
    assert server.count(after).count == 9


def test_a_server_that_is_away_is_named(tmp_path: Path) -> None:
    index = index_of(url="http://127.0.0.1:9", timeout=2)  # the port of "discard", on which nobody listens
    with pytest.raises(StoreError, match=r"http://127\.0\.0\.1:9: the Qdrant server does not answer as it should") as e:
        index.build([vectors_of(3)], tmp_path)
    assert "\n" not in str(e.value)


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    index = index_of()
    with pytest.raises(StoreError, match=rf"{COLLECTION}: is damaged"):
        index.open(tmp_path)
    for damaged in ('{"collection": "c", "points": 1e999, "dim": 3}', '{"points": ' * 5000):
        (tmp_path / COLLECTION).write_text(damaged)
        with pytest.raises(StoreError, match=rf"{COLLECTION}: is damaged"):
            index.open(tmp_path)
    index.build([vectors_of(5)], tmp_path)
    (tmp_path / VECTORS).write_bytes(b"cut")
    with pytest.raises(StoreError, match=rf"{VECTORS}: cannot be read"):
        index.open(tmp_path)
    with pytest.raises(ValueError, match=r"blocks\[1\]: expected \(n, 12\)"):
        index.search([vectors_of(5), vectors_of(5)[:, :7]], vectors_of(1), 1)


def test_the_key_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("heritage_align_plugins.qdrant_index.index.QdrantClient", lambda **given: asked.update(given))
    monkeypatch.setenv("MUSEUM_KEY", "s3cret")
    index = index_of(url=URL, api_key_variable="MUSEUM_KEY")
    index._client()
    assert asked["api_key"] == "s3cret"
    assert "s3cret" not in index.fingerprint() + index._config.model_dump_json()


def test_settings_of_a_search_change_no_index_and_others_do() -> None:
    assert index_of(url=URL, ef=9).fingerprint() == index_of(url=URL, ef=99, timeout=3).fingerprint()
    prints = [
        index_of(**v).fingerprint() for v in ({}, {"url": URL}, {"url": URL, "m": 8}, {"url": URL, "ef_construct": 9})
    ]
    assert len(set(prints)) == len(prints)


def test_without_the_client_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = default_registry()
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(MissingDependency, match=r"index 'qdrant' needs qdrant_client: pip install .*\[qdrant\]'"):
        registry.target(registry.spec("index", "qdrant"))

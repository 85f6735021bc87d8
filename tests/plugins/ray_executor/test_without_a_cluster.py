"""The Ray executor's own decisions, and what it says where there is no cluster, or another folder."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from heritage_align_plugins.ray_executor import work as works
from heritage_align_plugins.ray_executor.executor import ATTEMPTS, Losses
from heritage_align_plugins.ray_executor.faults import is_lost, named, said_by
from heritage_align_plugins.ray_executor.holders import cut
from heritage_align_plugins.ray_executor.work import Work, at_work, mark_of, pipeline_of, refuse_other_folder, work_of
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import ActorDiedError, NodeDiedError, ObjectLostError, RayTaskError, WorkerCrashedError

from heritage_align import plugins
from heritage_align.errors import ConfigError, DataError, StoreError
from heritage_align.indexing import build_index
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.search import Searcher
from heritage_align.store import Store
from heritage_align.testing import samples


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 15))
def test_parts_are_all_shards_in_order_and_none_is_empty(images: list[int], parts: int) -> None:
    if not sum(images):
        images = [*images, 1]
    found = cut(images, parts)
    assert [n for first, last in found for n in range(first, last)] == list(range(len(images)))
    assert all(sum(images[first:last]) for first, last in found)
    assert 1 <= len(found) <= parts
    wanted = min(parts, sum(map(bool, images)))
    if all(count == images[0] for count in images):
        assert len(found) == wanted


@pytest.mark.parametrize("address", ["localhost", "ray://head:10001", "head:port", "", "http://head:6379", "a b:1"])
def test_an_address_that_is_none_is_refused(scan: Pipeline, address: str) -> None:
    document = {**scan.config.as_dict(), "executor": {"name": "ray", "address": address}}
    with pytest.raises(ConfigError, match=r"executor\.address: expected auto, or host:port"):
        Pipeline.from_config(document)


@pytest.mark.parametrize("listens", [False, True])
def test_where_no_cluster_is_one_error_says_so_soon(
    scan: Pipeline, tmp_path: Path, listens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens there, or something else does."""
    monkeypatch.setattr("heritage_align_plugins.ray_executor.session.ray.is_initialized", lambda: False)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listens:
            other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        document = {**scan.config.as_dict(), "executor": {"name": "ray", "address": address}}
        pipeline = Pipeline.from_config(document)
        with pytest.raises(ConfigError, match=f"executor.address: there is no Ray cluster at {address}"):
            build_index(pipeline, dataset_sources(pipeline.dataset()), tmp_path / "store")
    assert not list((tmp_path / "store").glob("shard-*"))


def test_without_the_library_a_config_says_how_to_get_it(scan: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    real = plugins.find_spec
    monkeypatch.setattr(plugins, "find_spec", lambda name: None if name == "ray" else real(name))
    with pytest.raises(ConfigError) as told:
        Pipeline.from_config({**scan.config.as_dict(), "executor": {"name": "ray"}})
    assert told.value.problems == ("executor.name: 'ray' needs ray: pip install 'heritage-align[ray]'",)


def test_a_folder_that_is_not_shared_is_named(tmp_path: Path) -> None:
    store = tmp_path / "库"
    store.mkdir()
    with pytest.raises(StoreError, match="holds neither build.json nor manifest.json"):
        mark_of(store)
    (store / "manifest.json").write_text("{}", encoding="utf-8")
    mark, digest = mark_of(store)
    refuse_other_folder(mark, digest)
    (store / "manifest.json").write_text("{} ", encoding="utf-8")
    with pytest.raises(StoreError, match=r"manifest\.json: differs from the driver's; every node needs the same"):
        refuse_other_folder(mark, digest)
    (store / "manifest.json").unlink()
    with pytest.raises(
        StoreError, match="is not the driver's folder: No such file .* on a file system that they share"
    ):
        refuse_other_folder(mark, digest)


def work(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setattr(works, "most_of", lambda _: 0.0)
    return work_of(pipeline, pipeline.executor._settings)  # type: ignore[attr-defined]


@pytest.fixture
def remote(scan: Pipeline) -> Pipeline:
    return Pipeline.from_config({**scan.config.as_dict(), "executor": {"name": "ray", "cpus": 2}})


def test_a_worker_builds_the_driver_s_pipeline_of_its_text(remote: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    given_to_it = work(remote, monkeypatch)
    made = pipeline_of(given_to_it)
    assert made.config.executor.spec.name == "local"
    assert made.config.runtime.threads() == 2
    assert made.identity()["image_config"] == remote.identity()["image_config"]
    for changed, says in (
        ({"version": "0.0.1"}, r"node [\d.]+: has heritage-align .*, the driver 0\.0\.1; install the same on all"),
        ({"encoder": "cn_clip/other"}, r"node [\d.]+: its encoder is .*, the driver's cn_clip/other; give all nodes"),
    ):
        with pytest.raises(StoreError, match=says), at_work(given_to_it._replace(**changed)):  # type: ignore[arg-type]
            pipeline_of(given_to_it._replace(**changed))  # type: ignore[arg-type]
    gone = given_to_it._replace(config=given_to_it.config.replace("tiny.safetensors", "gone.safetensors"))
    with pytest.raises(ConfigError, match=r"the driver's config on node [\d.]+: 1 problem\n  encoder\.model: "):
        with at_work(gone):
            pipeline_of(gone)


def failed(cause: Exception) -> Exception:
    """Return what Ray raises for a task that raised an error."""
    error = RayTaskError("task", "Traceback ...", cause)
    return error.as_instanceof_cause()  # type: ignore[no-any-return]


def test_what_a_worker_said_is_told_and_what_was_lost_is_tried_again() -> None:
    told = ConfigError(["data.folder: is gone"], "c.yaml")
    assert said_by(failed(told)) is told
    assert said_by(failed(KeyError("a bug"))) is None
    assert not is_lost(failed(KeyError("a bug")))
    for error in (WorkerCrashedError(), NodeDiedError("node 3"), ActorDiedError(), ObjectLostError("aa", None, "")):
        assert is_lost(error)
        assert said_by(error) is None
    assert str(named(DataError("table.csv: is gone"))).endswith(": table.csv: is gone")
    losses = Losses("store")
    for progress in (False, False, True, *[False] * (ATTEMPTS - 1)):
        losses.count(WorkerCrashedError(), progress)
    with pytest.raises(
        StoreError, match=f"store: the cluster lost its workers {ATTEMPTS} times and did nothing between"
    ):
        losses.count(WorkerCrashedError(), False)
    lacking = RayTaskError("__init__", "Traceback ...\nModuleNotFoundError: No module named 'x'", ModuleNotFoundError())
    with pytest.raises(
        StoreError, match="store: a worker cannot start: ModuleNotFoundError: .*'x'; every node needs the"
    ):
        Losses("store").count(ActorDiedError(lacking), False)
    with pytest.raises(KeyError):
        Losses("store").count(KeyError("a bug"), True)
    with pytest.raises(ConfigError, match="is gone") as raised:
        Losses("store").count(failed(told), False)
    assert raised.value is told


def test_an_error_with_places_survives_the_way_from_a_worker() -> None:
    import pickle

    told: Any = pickle.loads(pickle.dumps(ConfigError(["a: one", "b: 二"], "c.yaml")))
    assert (told.problems, told.source, str(told)) == (
        ("a: one", "b: 二"),
        "c.yaml",
        str(ConfigError(["a: one", "b: 二"], "c.yaml")),
    )


def test_an_index_that_is_kept_beside_a_whole_store_is_refused(
    scan: Pipeline, stored: Callable[..., Store], tmp_path: Path
) -> None:
    class Holds:
        """Would be asked, and must not be."""

    kept = Pipeline.from_config({**scan.config.as_dict(), "index": {"name": "faiss", "kind": "flat"}})
    store = stored(samples.image_features((2, 3), 16), tmp_path / "store", "fp32", 2)
    with pytest.raises(ConfigError, match="index: 'faiss' is kept beside a whole store, and workers hold parts of it"):
        Searcher(kept, store, holders=Holds())  # type: ignore[arg-type]

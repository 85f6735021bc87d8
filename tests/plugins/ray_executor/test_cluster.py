"""On a real cluster of several nodes: shards, answers and metrics are those of one process, whoever dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from heritage_align.cli import cli
from heritage_align.errors import ConfigError, DataError, StoreError
from heritage_align.indexing import build_index
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.search import Searcher
from heritage_align.store import Store, verify
from heritage_align.testing import Case, check_component
from heritage_align.types import TextItem
from heritage_align.updating import update_index

pytestmark = pytest.mark.slow

QUERIES = [TextItem("鹤", "缠枝莲，白鹤"), TextItem("cranes", "two cranes, a lotus pond, waves")]


def contents(folder: Path) -> dict[str, bytes]:
    """Return what a store's files hold; config.yaml says who did the work."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "config.yaml"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the workers, which have a core each: a product's last bit may hang on how many threads share it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def local(made: Any) -> Pipeline:
    pipeline: Pipeline = made()
    return pipeline


@pytest.fixture(scope="module")
def remote(made: Any, cluster: Any) -> Pipeline:
    pipeline: Pipeline = made({"address": cluster.address})
    return pipeline


@pytest.fixture(scope="module")
def store(local: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process builds."""
    folder = tmp_path_factory.mktemp("local") / "store"
    build_index(local, dataset_sources(local.dataset()), folder)
    return folder


def test_a_build_loses_a_node_and_is_the_same_to_the_byte(
    cluster: Any, remote: Pipeline, store: Path, tmp_path: Path
) -> None:
    done: list[int] = []

    def progress(pictures: int) -> None:
        if not done:
            cluster.kill()
        done.append(pictures)

    report = build_index(remote, dataset_sources(remote.dataset()), tmp_path / "store", progress=progress)
    assert (report.images, report.written, report.finished) == (39, 9, True)
    assert sum(done) == 41
    assert [image_id for image_id, _ in report.skipped] == ["图02x.png", "图07.png"]
    assert contents(tmp_path / "store") == contents(store)
    assert "name: ray" in (tmp_path / "store" / "config.yaml").read_text(encoding="utf-8")


def test_queries_lose_a_node_and_answer_as_one_process(
    cluster: Any, local: Pipeline, remote: Pipeline, store: Path
) -> None:
    here, there = Searcher.open(local, store), Searcher.open(remote, store)
    expected = here.search(QUERIES, candidates=25)
    assert there.search(QUERIES, candidates=25) == expected
    cluster.kill()
    for _ in range(3):
        assert there.search(QUERIES, candidates=25) == expected
    assert there.hits(QUERIES, top_k=5) == here.hits(QUERIES, top_k=5)
    assert there.search(QUERIES, top_k=100, candidates=100) == here.search(QUERIES, top_k=100, candidates=100)
    assert there.rerank(expected, QUERIES) == here.rerank(expected, QUERIES)
    texts = local.encode_texts(QUERIES)
    assert torch.equal(there.score_all(texts), here.score_all(texts))
    picture = local.dataset().load_image("图11.png")
    assert there.search_images([picture], ["q"]) == here.search_images([picture], ["q"])
    there.close()
    with pytest.raises(StoreError, match="was closed"):
        there.search(QUERIES)


def test_an_update_loses_a_worker_and_is_the_same_to_the_byte(
    cluster: Any, made: Any, many_pictures: Path, store: Path, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    shutil.copytree(many_pictures, pictures)
    for name in ("one", "two"):
        shutil.copytree(store, tmp_path / name)
    (pictures / "图05.png").unlink()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / f"new{number:02}.png")
    changed = [f"data.folder={pictures}"]
    one, two = made(None, *changed), made({"address": cluster.address}, *changed)
    update_index(one, dataset_sources(one.dataset()), tmp_path / "one")
    killed: list[int] = []

    def kill_one(_: int) -> None:
        if not killed:
            killed.extend(cluster.working()[:1])
            os.kill(killed[0], signal.SIGKILL)

    report = update_index(two, dataset_sources(two.dataset()), tmp_path / "two", kill_one)
    assert killed
    assert len(report.changes.added) == 12
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert list(verify(tmp_path / "two")) == []


def test_metrics_are_those_of_one_process(made: Any, cluster: Any, store: Path, tmp_path: Path) -> None:
    """From the command line, encoded by workers and held by workers."""
    table = tmp_path / "captions.csv"
    names = Store.open(store).ids
    folder = Path(made().config.data.settings.folder)  # type: ignore[union-attr]
    table.write_text("image,text\n" + "".join(f"{n},text of {n}\n" for n in names), encoding="utf-8")
    data = {"name": "table", "file": str(table), "images": str(folder), "image": "image", "text": "text"}
    answers = []
    for executor in (None, {"address": cluster.address, "workers": 1}):
        config = tmp_path / f"{len(answers)}.yaml"
        document = made(executor).config.as_dict() | {"data": data}
        config.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
        result = CliRunner().invoke(cli, ["evaluate", str(config), "--json"])
        assert result.exit_code == 0, result.output
        # Ray may print what became of the nodes that other tests killed before the document, and after it.
        answers.append(json.JSONDecoder().raw_decode(result.stdout[result.stdout.index("{\n") :])[0])
    one, two = ({k: v for k, v in a["systems"][0].items() if k in ("t2i", "i2t")} for a in answers)
    assert one
    assert two == one


def test_a_full_disk_ends_a_build_with_one_error(
    remote: Pipeline, store: Path, small_disk: Callable[[int], Path]
) -> None:
    sizes = [-(-file.stat().st_size // 4096) * 4096 for file in store.glob("shard-*")]
    disk = small_disk(sum(sizes) // 2)
    with pytest.raises(StoreError, match=r"node .*shard-0000\d\.safetensors: cannot be written: No space left") as told:
        build_index(remote, dataset_sources(remote.dataset()), disk / "store")
    assert "Traceback" not in str(told.value)
    there = list((disk / "store").glob("shard-*"))
    assert all(file.read_bytes() == (store / file.name).read_bytes() for file in there)
    small_disk(4 * sum(sizes))
    for name in ("shard-00001.safetensors", "shard-00008.safetensors"):  # the second one has fewer pictures
        (disk / "store" / name).unlink(missing_ok=True)
    found = len(list((disk / "store").glob("shard-*")))
    report = build_index(remote, dataset_sources(remote.dataset()), disk / "store")
    assert (report.found, report.written) == (found, 9 - found)
    assert contents(disk / "store") == contents(store)


def test_what_a_worker_lacks_is_named(made: Any, cluster: Any, local: Pipeline, tmp_path: Path) -> None:
    sources = dataset_sources(local.dataset())
    too_large = made({"address": cluster.address, "cpus": 3, "gpus": 2})
    with pytest.raises(ConfigError) as told:
        build_index(too_large, sources, tmp_path / "store")
    assert told.value.problems == (
        "executor.cpus: a worker takes 3, the largest node of the cluster has 1",
        "executor.gpus: a worker takes 2, the largest node of the cluster has 0",
    )
    shutil.copytree(local.config.data.settings.folder, tmp_path / "pictures")  # type: ignore[union-attr]
    other = made({"address": cluster.address, "workers": 1}, f"data.folder={tmp_path / 'pictures'}")
    for picture in list((tmp_path / "pictures").iterdir())[5:]:
        picture.unlink()  # as on a node that sees another folder under this path
    with pytest.raises(DataError, match=r"node [\d.]+: data set .* has no picture '图.*' there; do all nodes see its"):
        build_index(other, sources, tmp_path / "store")


SYSTEM = {
    "version": 1,
    "name": "kit",
    "encoder": {"name": "cn_clip", "model": "motif-small"},
    "similarity": {"name": "laclip"},
    "proposer": {"name": "random_crops", "count": 2},
    "data": {"name": "motifs", "artworks": 3, "variants": 1, "size": 64},
    "runtime": {"device": "cpu", "batch_size": 2},
}


def test_conformance(cluster: Any) -> None:
    """With a similarity that folds: the other tests' does not."""
    check_component(Case("executor", "ray", {"address": cluster.address, "workers": 1}, system=SYSTEM))

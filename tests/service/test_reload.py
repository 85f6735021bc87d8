"""A store that is updated, compacted, replaced, deleted or damaged underneath: nothing is dropped."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from heritage_align import build_index, dataset_sources
from heritage_align.config import Config, load_config
from heritage_align.pipeline import Pipeline, build_dataset
from heritage_align.search import Searcher
from heritage_align.service.app import create_app
from heritage_align.service.served import Catalogue, Source
from heritage_align.service.settings import ServiceSettings
from heritage_align.types import TextItem
from heritage_align.updating import compact, update_index

QUERY = "蓝地缠枝莲纹"


class Museum:
    """A collection whose pictures come and go, its store, and the service over it.

    Attributes:
        pictures: folder of the pictures.
        store: what is served; a link to the folder that holds it.
        client: of the service.
    """

    def __init__(self, folder: Path, checkpoint: Path, **more: Any) -> None:
        self.pictures, self.store, self.folder = folder / "pictures", folder / "store", folder
        self.pictures.mkdir()
        for number in range(6):
            self.add(number)
        document: dict[str, Any] = {
            "version": 1,
            "name": "tiny",
            "encoder": {"name": "cn_clip", "model": str(checkpoint)},
            "proposer": {"name": "random_crops", "count": 3},
            "fragmenter": {"name": "punctuation"},
            "similarity": {"name": "scan"},
            "store": {"shard_images": 2},
            "data": {"name": "folder", "folder": str(self.pictures)},
            "runtime": {"device": "cpu"},
            **more,
        }
        self.config: Config = load_config(document)
        self.pipeline = Pipeline(self.config)
        self.build(folder / "first")
        self.store.symlink_to("first")
        app = create_app(Catalogue([Source(self.config, self.store)]), ServiceSettings(reload_seconds=0.05))
        self.client = TestClient(app)

    def add(self, number: int) -> None:
        pixels = np.random.default_rng(number).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(self.pictures / f"p{number}.png")

    def build(self, folder: Path) -> None:
        build_index(self.pipeline, list(dataset_sources(build_dataset(self.config))), folder)

    def update(self) -> None:
        update_index(self.pipeline, list(dataset_sources(build_dataset(self.config))), self.store)

    def turn_to(self, folder: str) -> None:
        """Let the link lead to another folder, at one moment."""
        link = self.folder / "link"
        link.symlink_to(folder)
        os.replace(link, self.store)

    def ask(self, **more: Any) -> Any:
        return self.client.post("/search", json={"text": QUERY, "k": 20, **more})

    def recipe(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/health").json()["recipes"][0]
        return found

    def wait_for(self, seen: Callable[[dict[str, Any]], bool]) -> None:
        end = time.monotonic() + 10
        while not seen(self.recipe()):
            assert time.monotonic() < end, self.recipe()
            time.sleep(0.02)

    def change(self, work: Callable[[], object]) -> None:
        """Change the store, and wait until the service has seen it."""
        before = self.recipe()["store"]
        work()
        self.wait_for(lambda recipe: recipe["store"] != before)

    def expected(self) -> list[tuple[str, float]]:
        """What a searcher that is opened now answers."""
        [hits] = Searcher.open(self.pipeline, self.store).hits([TextItem("q", QUERY)], top_k=20)
        return [(hit.id, hit.score) for hit in hits]

    @contextmanager
    def under_load(self) -> Iterator[Counter[int]]:
        """Ask from four threads all the while; gives how often each status was the answer."""
        seen: Counter[int] = Counter()
        stop, lock = threading.Event(), threading.Lock()

        def ask() -> None:
            while not stop.is_set():
                answer = self.ask()
                pictures = [hit["id"] for hit in answer.json()["hits"]] if answer.status_code == 200 else []
                with lock:
                    seen[answer.status_code] += 1
                assert len(pictures) == len(set(pictures))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(0.1)
            yield seen
            time.sleep(0.1)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert seen.total() > 10


@pytest.fixture
def museum(tmp_path: Path, tiny_checkpoint: Path) -> Iterator[Museum]:
    museum = Museum(tmp_path, tiny_checkpoint)
    with museum.client:
        yield museum


def test_updates_and_compaction_under_load_drop_no_request(museum: Museum) -> None:
    with museum.under_load() as seen:
        for number in range(6, 9):
            museum.add(number)
            (museum.pictures / f"p{number - 6}.png").unlink()
            museum.change(museum.update)
        museum.change(lambda: compact(museum.store))
    assert set(seen) == {200}
    found = [(hit["id"], hit["score"]) for hit in museum.ask().json()["hits"]]
    assert found == museum.expected()
    assert {image_id for image_id, _ in found} == {f"p{number}.png" for number in range(3, 9)}
    assert museum.client.get("/items/p8.png/picture").status_code == 200  # the collection is read again too
    assert museum.client.get("/items/p0.png/picture").status_code == 404


@pytest.mark.filterwarnings("ignore::heritage_align.errors.Note")
@pytest.mark.parametrize("index", [{"name": "faiss", "kind": "hnsw"}, {"name": "qdrant"}], ids=str)
def test_updates_under_load_drop_no_request_where_an_index_is_kept(
    tmp_path: Path, tiny_checkpoint: Path, index: dict[str, Any]
) -> None:
    museum = Museum(tmp_path, tiny_checkpoint, index=index)
    with museum.client:
        with museum.under_load() as seen:
            for number in range(6, 10):
                museum.add(number)
                museum.change(museum.update)
            for _ in range(20):  # each closes the searcher that answers
                museum.client.app.state.service.reload(always=True)  # type: ignore[attr-defined]
            museum.change(lambda: compact(museum.store))
        assert set(seen) == {200}
        assert len(museum.ask().json()["hits"]) == 10
        assert museum.recipe()["fault"] is None


def test_compaction_is_survived_even_before_the_next_look(museum: Museum) -> None:
    """The files are gone when the next request comes; the store is opened again within that request."""
    (museum.pictures / "p0.png").unlink()
    served = museum.client.app.state.service.catalogue["tiny"]  # type: ignore[attr-defined]
    museum.update()
    museum.wait_for(lambda recipe: recipe["images"] == 5)
    look = served.reload
    looks: list[bool] = []
    served.reload = lambda **_: None  # nobody looks
    compact(museum.store)
    opened = served.opened
    served.reload = lambda **options: looks.append(look(**options))
    opened.searcher.store._checked = 0.0  # it looks at its files once a second
    assert museum.ask().status_code == 200
    assert looks
    assert served.opened is not opened


def test_a_store_that_is_replaced_by_turning_the_link_drops_no_request(museum: Museum) -> None:
    museum.add(6)
    museum.build(museum.folder / "second")
    with museum.under_load() as seen:
        for turn in range(6):
            museum.turn_to("second" if turn % 2 == 0 else "first")
            images = 7 if turn % 2 == 0 else 6
            museum.wait_for(lambda recipe, images=images: recipe["images"] == images)
    assert set(seen) == {200}
    shutil.rmtree(museum.folder / "second")  # nobody needs it any more
    time.sleep(0.2)
    assert museum.ask().status_code == 200
    assert museum.recipe()["fault"] is None


def test_a_store_that_is_deleted_says_so_and_comes_back(museum: Museum) -> None:
    shutil.move(museum.folder / "first", museum.folder / "kept")
    museum.wait_for(lambda recipe: recipe["fault"] is not None)
    time.sleep(1.1)  # a store looks at its files once a second
    answer = museum.ask()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["message"] == "the store of recipe 'tiny' was changed and cannot be read at the moment"
    health = museum.client.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert str(museum.folder) not in health.text
    assert museum.client.get("/items/p0.png/regions").status_code == 503
    shutil.move(museum.folder / "kept", museum.folder / "first")
    museum.wait_for(lambda recipe: recipe["fault"] is None)
    assert museum.ask().status_code == 200


def test_a_store_that_is_built_again_in_its_place_answers_when_it_is_there(museum: Museum) -> None:
    with museum.under_load() as seen:
        before = museum.recipe()["opened"]
        shutil.rmtree(museum.folder / "first")
        museum.add(6)
        museum.build(museum.folder / "first")
        museum.wait_for(lambda recipe: recipe["images"] == 7)
        assert museum.recipe()["opened"] >= before
    assert set(seen) <= {200, 503}
    assert [hit["id"] for hit in museum.ask().json()["hits"]] == [image_id for image_id, _ in museum.expected()]


@pytest.mark.parametrize("damage", ["another encoder", "no manifest", "not json", "empty"])
def test_a_store_that_cannot_be_served_takes_nobodys_place(museum: Museum, damage: str) -> None:
    other = museum.folder / "other"
    shutil.copytree(museum.folder / "first", other)
    manifest = other / "manifest.json"
    if damage == "another encoder":
        encoder = museum.pipeline.identity()["encoder"]
        manifest.write_text(manifest.read_text().replace(encoder, "cn_clip/another"))
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text("{" if damage == "not json" else "")
    expected = museum.expected()
    museum.turn_to("other")
    museum.wait_for(lambda recipe: recipe["fault"] is not None)
    assert [(hit["id"], hit["score"]) for hit in museum.ask().json()["hits"]] == expected
    assert str(museum.folder) not in str(museum.recipe())
    museum.turn_to("first")
    museum.wait_for(lambda recipe: recipe["fault"] is None)

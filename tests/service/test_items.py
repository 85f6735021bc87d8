"""Pictures are looked up by id in the store, come in bounded sizes, and no path of a request reaches a file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from heritage_align import build_index, dataset_sources
from heritage_align.config import load_config
from heritage_align.pipeline import Pipeline, build_dataset
from heritage_align.service.app import create_app
from heritage_align.service.served import Catalogue, Source
from heritage_align.service.settings import ServiceSettings

SIDEWAYS, DEEP = "turned.jpg", "卷一/蓝 地?#%.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with names that are hard on addresses, one lying on its side, and a secret beside them."""
    folder = tmp_path_factory.mktemp("items") / "pictures"
    (folder / "卷一").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise).save(folder / SIDEWAYS, exif=exif)
    Image.fromarray(noise).resize((1800, 1200)).save(folder / DEEP)
    Image.fromarray(noise).save(folder / "gone.png")
    (folder.parent / "secret.png").write_bytes((folder / "gone.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def items(folder: Path, tiny_checkpoint: Path) -> Iterator[TestClient]:
    document = {
        "version": 1,
        "name": "tiny",
        "encoder": {"name": "cn_clip", "model": str(tiny_checkpoint)},
        "proposer": {"name": "random_crops", "count": 3},
        "similarity": {"name": "laclip"},
        "data": {"name": "folder", "folder": str(folder)},
        "runtime": {"device": "cpu"},
    }
    config = load_config(document)
    build_index(Pipeline(config), list(dataset_sources(build_dataset(config))), folder.parent / "store")
    (folder / "gone.png").unlink()
    del document["data"]  # the store says what it was built of
    source = Source(load_config(document), folder.parent / "store")
    with TestClient(create_app(Catalogue([source]), ServiceSettings(picture_side=256))) as client:
        yield client


def test_an_item_says_what_there_is_of_it(items: TestClient, client: TestClient) -> None:
    found = items.get(f"/items/{SIDEWAYS}").json()
    assert (found["width"], found["height"], found["regions"], found["picture"]) == (60, 90, 3, True)
    of_motifs = client.get("/items/test-00000-0").json()
    assert {text["language"] for text in of_motifs["texts"]} == {"zh", "en"}


@pytest.mark.parametrize("image_id", [SIDEWAYS, DEEP])
def test_a_picture_is_upright_and_bounded(items: TestClient, image_id: str) -> None:
    for size, bound in ((None, 256), (32, 32), (8192, 256)):
        address = f"/items/{quote(image_id, safe='')}/picture"
        answer = items.get(address, params={} if size is None else {"size": size})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
        image = Image.open(io.BytesIO(answer.content))
        width, height = (60, 90) if image_id == SIDEWAYS else (1800, 1200)
        assert max(image.size) == min(bound, max(width, height))
        assert image.width / image.height == pytest.approx(width / height, rel=0.05)


def test_slashes_of_an_id_may_stand_as_they_are(items: TestClient) -> None:
    assert items.get(f"/items/{quote(DEEP)}").json()["id"] == DEEP
    assert len(items.get(f"/items/{quote(DEEP)}/regions").json()["regions"]) == 3


def test_a_picture_that_was_seen_is_not_sent_again(items: TestClient) -> None:
    first = items.get(f"/items/{SIDEWAYS}/picture")
    again = items.get(f"/items/{SIDEWAYS}/picture", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = items.get(f"/items/{SIDEWAYS}/picture?size=32", headers={"if-none-match": first.headers["etag"]})
    assert other.status_code == 200


def test_a_picture_that_is_gone(items: TestClient) -> None:
    answer = items.get("/items/gone.png/picture")
    assert answer.status_code == 404
    assert answer.json()["message"] == "the picture of 'gone.png' is not on this machine"
    found = items.get("/items/gone.png").json()
    assert (found["picture"], found["width"], found["regions"]) == (False, None, 3)
    assert items.get("/items/gone.png/regions").json()["regions"][0]["pixels"] is None
    assert items.post("/search", json={"pictures": [{"id": "gone.png"}]}).status_code == 404
    assert items.post("/search", json={"pictures": [{"id": "gone.png", "region": 0}]}).status_code == 200


@pytest.mark.parametrize(
    "image_id",
    [
        "../secret.png",
        "..%2Fsecret.png",
        "%2e%2e%2fsecret.png",
        "/etc/passwd",
        "卷一%2F..%2Fturned.jpg",
        "a%00b",
        "",
        "nowhere",
    ],
)
@pytest.mark.parametrize("page", ["/picture", "/regions", ""])
def test_only_what_the_store_lists_is_looked_up(items: TestClient, image_id: str, page: str) -> None:
    answer = items.get(f"/items/{image_id}{page}")
    assert answer.status_code == 404
    assert "secret" not in answer.json()["message"].replace("../secret.png", "")


@pytest.mark.parametrize("size", ["0", "-5", "99999999", "x", ""])
def test_sizes_out_of_range(items: TestClient, size: str) -> None:
    assert items.get(f"/items/{SIDEWAYS}/picture?size={size}").status_code == 422

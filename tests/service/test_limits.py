"""Bodies, pictures and numbers beyond the limits, and a queue that is full, are answered; nothing collapses."""

from __future__ import annotations

import base64
import struct
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from heritage_align.service.served import Opened, Served


def claims(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose pixels are missing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


JSON = {"content-type": "application/json"}
HOSTILE = {
    "bomb": claims(60_000, 60_000),
    "no pixels": claims(0, 7),
    "missing pixels": claims(64, 64),
    "huge tiff": b"II*\x00\x08\x00\x00\x00\xff\xff" + b"\xff" * 60,
    "empty": b"",
    "text": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run\n",
    "pdf": b"%PDF-1.4\n1 0 obj << /Type /Catalog >> endobj",
    "tga": bytes(18) + b"\x00" * 64,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("page", ["/search", "/rerank"])
def test_hostile_pictures(client: TestClient, name: str, page: str) -> None:
    data = base64.b64encode(HOSTILE[name]).decode() or "===="
    bodies: dict[str, dict[str, Any]] = {
        "/search": {"pictures": [{"data": data}]},
        "/rerank": {"query": "crane", "documents": [{"image": data}]},
    }
    start = time.perf_counter()
    answer = client.post(page, json=bodies[page])
    assert answer.status_code == 422
    assert answer.json()["message"].startswith(("pictures.0: ", "documents.0: "))
    assert time.perf_counter() - start < 2


def test_a_cut_picture_and_one_beyond_the_pixels(
    limited: Callable[..., TestClient], base64_of: Callable[..., str]
) -> None:
    client, image = limited(pixels=10_000), Image.radial_gradient("L").convert("RGB")
    answer = client.post("/search", json={"pictures": [{"data": base64_of(image)}]})
    assert answer.json()["message"].endswith("pixels exceed the limit of 10000; send a smaller copy of it")
    # JPEG is decoded at a reduced size instead, here an eighth.
    assert client.post("/search", json={"pictures": [{"data": base64_of(image, "JPEG")}]}).status_code == 200
    cut = base64_of(image.resize((90, 90)), "JPEG")[:1200]
    answer = client.post("/search", json={"pictures": [{"data": cut}]})
    assert "truncated or broken" in answer.json()["message"]


def test_a_body_beyond_the_limit(limited: Callable[..., TestClient]) -> None:
    client = limited(body_bytes=2000)
    body = b'{"text": "' + b" " * 3000 + b'crane"}'
    assert client.post("/search", content=body, headers=JSON).status_code == 413
    pieces = (body[start : start + 100] for start in range(0, len(body), 100))
    answer = client.post("/search", content=pieces, headers=JSON)  # without a content-length
    assert answer.status_code == 413
    assert answer.json()["message"] == "the body is larger than the limit of 2000 bytes"
    assert client.post("/search", json={"text": "crane"}).status_code == 200


@pytest.mark.parametrize("length", ["-1", "x", "9" * 30])
def test_a_content_length_that_lies(client: TestClient, length: str) -> None:
    answer = client.post("/search", content=b'{"text": "crane"}', headers={**JSON, "content-length": length})
    assert answer.status_code in (200, 413)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_that_a_page_of_any_origin_could_send(client: TestClient, kind: str) -> None:
    answer = client.post("/search", content=b'{"text": "crane"}', headers={"content-type": kind})
    assert answer.status_code == 415
    right = client.post(
        "/search", content=b'{"text": "crane"}', headers={"content-type": "Application/JSON;charset=utf-8"}
    )
    assert right.status_code == 200


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Every use of a store waits until the event is set."""
    go = threading.Event()
    use = Served.use

    def wait(self: Served, work: Callable[[Opened], Any]) -> Any:
        assert go.wait(20)
        return use(self, work)

    monkeypatch.setattr(Served, "use", wait)
    return go


def test_a_full_queue_is_said_at_once_and_empties_by_itself(
    limited: Callable[..., TestClient], slow: threading.Event
) -> None:
    client = limited(waiting=3)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(client.post, "/search", json={"text": "crane"}) for _ in range(3)]
        while "heritage_align_in_progress 3.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        start = time.perf_counter()
        answer = client.post("/search", json={"text": "crane"})
        assert time.perf_counter() - start < 0.5
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert client.post("/rerank", content=b"not read", headers=JSON).status_code == 429
        assert client.get("/health").status_code == 200  # looking is not asking
        slow.set()
        assert [answer.result().status_code for answer in waiting] == [200, 200, 200]
    assert client.post("/search", json={"text": "crane"}).status_code == 200


def test_an_answer_that_takes_too_long(limited: Callable[..., TestClient], slow: threading.Event) -> None:
    client = limited(answer_seconds=0.2)
    answer = client.post("/search", json={"text": "crane"})
    slow.set()
    assert (answer.status_code, answer.json()["message"]) == (503, "there was no answer after 0.2 s")
    assert client.post("/search", json={"text": "crane"}).status_code == 200


def test_a_fault_of_ours_tells_nothing_and_costs_nobody_else(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the secret of /home/somebody")

    with monkeypatch.context() as patched:
        patched.setattr(Served, "use", fail)
        answer = client.post("/search", json={"text": "crane"})
        assert (answer.status_code, answer.json()["message"]) == (500, "a fault of the service; its log says more")
    assert client.post("/search", json={"text": "crane"}).status_code == 200

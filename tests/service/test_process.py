"""A real process on loopback: slow clients, signals, workers that share the port, and stores it cannot open."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from uvicorn import Server

from heritage_align.pipeline import Pipeline
from heritage_align.search import Searcher, calibrate, everyday_texts, write_calibration
from heritage_align.service.patience import PatientConfig
from heritage_align.service.served import Source
from heritage_align.types import TextItem

LARGE = 64 * 2**20
BODY = b'{"text": "crane", "k": 2}'
HEAD = b"POST /search HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(
    BODY
)


def connected(service: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=10)


def end_of(connection: socket.socket) -> bytes:
    """Return what comes until the service ends the connection; raises TimeoutError where it does not."""
    received = b""
    try:
        while piece := connection.recv(2**16):
            received += piece
    except ConnectionResetError:
        pass
    return received


def test_its_answers_are_the_searchers(http: httpx.Client, searchers: dict[str, Searcher]) -> None:
    for name, searcher in searchers.items():
        [hits] = searcher.hits([TextItem("q", "蓝地，白鹤")])
        answer = http.post("/search", json={"text": "蓝地，白鹤", "recipe": name}).json()
        found = {hit["id"]: hit["score"] for hit in answer["hits"]}
        # The process may compute with another number of threads than this one, which the last bits hang on.
        assert found == pytest.approx({hit.id: hit.score for hit in hits}, abs=1e-5)


def test_many_clients_at_once_get_their_own_answers(http: httpx.Client, searchers: dict[str, Searcher]) -> None:
    texts = [f"{number} cranes on a blue ground, {number % 3} lotus" for number in range(40)]
    searcher = searchers["late-interaction"]
    alone = [{hit.id: hit.score for hit in searcher.hits([TextItem("q", text)])[0]} for text in texts]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda text: http.post("/search", json={"text": text}), texts))
    for answer, wanted in zip(answers, alone, strict=True):
        found = {hit["id"]: hit["score"] for hit in answer.json()["hits"]}
        # Asked together, texts are padded to one length: the last bits differ, and with them the order of equals.
        assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("sent", [b"", b"POST", HEAD[:-2], b"x" * 10])
def test_a_client_that_hangs_before_its_headers_are_there(service: Any, sent: bytes) -> None:
    with connected(service) as connection:
        connection.sendall(sent)
        end_of(connection)


def test_a_byte_a_second_of_headers_is_cut_off(service: Any) -> None:
    with connected(service) as connection:
        with pytest.raises(OSError):  # noqa: PT012  # reset, or a broken pipe
            for place in range(len(HEAD)):
                connection.sendall(HEAD[place : place + 1])
                time.sleep(0.3)


def test_a_body_that_does_not_come_gets_408_and_holds_no_place(service: Any, http: httpx.Client) -> None:
    waiting = [connected(service) for _ in range(70)]  # more than there are places
    for connection in waiting:
        connection.sendall(HEAD + BODY[:3])
    assert http.post("/search", json={"text": "crane"}).status_code == 200
    for connection in waiting:
        received = end_of(connection)
        assert received.startswith(b"HTTP/1.1 408")
        connection.close()


def test_a_client_that_does_not_read_is_cut_off() -> None:
    """Of an answer that is larger than the system's buffers: none of ours is, so that another app gives it."""

    async def give(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(LARGE)})

    config = PatientConfig(
        give, header_seconds=5, write_seconds=0.3, header_bytes=1024, lifespan="off", log_level="critical"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            with socket.create_connection(listener.getsockname(), timeout=10) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
                time.sleep(1)
                assert len(end_of(connection)) < LARGE
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.parametrize(
    "sent",
    [
        b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n",
        b"".join(b"X-%d: a\r\n" % number for number in range(9000)) + b"\r\n",
        b"X-Endless: " + b"a" * 2_000_000,
        b"a" * 400_000,  # the name of a header
    ],
    ids=["one", "many", "endless", "name"],
)
def test_headers_beyond_the_limit(service: Any, http: httpx.Client, sent: bytes) -> None:
    """The parser would keep all of them, for as long as header_seconds let a client send."""
    with connected(service) as connection:
        try:
            connection.sendall(b"GET /health HTTP/1.1\r\nhost: h\r\n" + sent)
            received = end_of(connection)
        except ConnectionError:  # reset while it still sends
            received = b""
    assert not received or received.startswith(b"HTTP/1.1 400")
    assert not received or b"larger than the limit of 65536 bytes" in received
    assert http.get("/health", headers={"x-long": "a" * 60_000}).status_code == 200


def test_an_address_beyond_the_limit_and_headers_behind_a_large_body(service: Any) -> None:
    with connected(service) as connection:
        connection.sendall(b"GET /items/" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: h\r\n\r\n")
        assert b"larger than the limit" in end_of(connection)
    body = json.dumps({"text": "crane", "k": 1}).encode() + b" " * 300_000
    head = b"POST /search HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(body)
    with connected(service) as connection:
        connection.sendall(head + b"\r\n" + body + head + b"connection: close\r\n\r\n" + body)
        received = end_of(connection)
    assert received.count(b"HTTP/1.1 200") == 2


def test_bytes_that_are_no_http(service: Any, http: httpx.Client) -> None:
    for junk in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET /" + b"a" * 100_000, b"\r\n" * 50, b"GET / HTTP/9.9\r\n\r\n"):
        with connected(service) as connection:
            try:
                connection.sendall(junk)
                end_of(connection)
            except OSError:
                pass
    assert http.get("/health").status_code == 200


def test_a_client_that_leaves(service: Any, http: httpx.Client) -> None:
    for _ in range(20):
        with connected(service) as connection:
            connection.sendall(HEAD + BODY)
    assert http.post("/search", json={"text": "crane"}).status_code == 200
    assert not [line for line in service.lines if "traceback" in line], service.lines
    assert not service.noise


def test_sighup_overload_and_sigterm(started: Callable[..., Any], sources: list[Source], tmp_path: Path) -> None:
    """One process for three: starting one takes seconds."""
    store = shutil.copytree(sources[0].store, tmp_path / "store")
    service = started(store=store, reload_seconds=30, waiting=8)
    sighup_opens_the_store_again_with_its_calibration(service, sources[0], store)
    overload_is_shed_and_passes(service)
    sigterm_lets_answers_in_progress_finish(service)


def sighup_opens_the_store_again_with_its_calibration(service: Any, source: Source, store: Path) -> None:
    with httpx.Client(base_url=service.url) as client:
        assert client.get("/recipes").json()["recipes"][0]["calibrated"] is False
        pipeline = Pipeline(source.config)
        with Searcher.open(pipeline, store) as searcher:
            write_calibration(pipeline, searcher.store, calibrate(searcher, everyday_texts()[:60], "everyday"))
        service.process.send_signal(signal.SIGHUP)
        service.wait_for("store opened again")
        assert client.get("/recipes").json()["recipes"][0]["calibrated"] is True
        assert client.post("/search", json={"text": "crane"}).json()["hits"][0]["relevance"] >= 0


def overload_is_shed_and_passes(service: Any) -> None:
    stop, seen = threading.Event(), Counter[int]()

    def ask() -> None:
        with httpx.Client(base_url=service.url, timeout=30) as client:
            while not stop.is_set():
                seen[client.post("/search", json={"text": "crane"}).status_code] += 1

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(seen) == {200, 429}
    assert httpx.post(f"{service.url}/search", json={"text": "crane"}).status_code == 200


def in_progress(service: Any) -> int:
    lines = httpx.get(f"{service.url}/metrics", timeout=30).text.splitlines()
    (line,) = (line for line in lines if line.startswith("heritage_align_in_progress"))
    return int(float(line.split()[-1]))


def sigterm_lets_answers_in_progress_finish(service: Any) -> None:
    body = {"query": "crane", "documents": ["test-00000-0"] * 10_000}
    answered = lambda: sum(line.get("path") == "/rerank" for line in list(service.lines))  # noqa: E731
    with ThreadPoolExecutor(8) as pool:
        ask = lambda: httpx.post(f"{service.url}/rerank", json=body, timeout=30).status_code  # noqa: E731
        answers = [pool.submit(ask) for _ in range(8)]
        # Until all are there: one that has not connected when the port closes is refused.
        while answered() + in_progress(service) < 8:
            time.sleep(0.01)
        service.process.send_signal(signal.SIGTERM)
        assert {answer.result() for answer in answers} == {200}
    assert service.stop() == -signal.SIGTERM
    assert service.lines[-1]["event"].startswith("Finished server process")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/health")


@pytest.mark.slow
def test_workers_share_the_port_and_their_numbers_and_one_that_is_killed_is_replaced(
    started: Callable[..., Any],
) -> None:
    service = started(workers=2)
    service.wait_for("serving", 2)
    seen: Counter[int] = Counter()
    for _ in range(24):  # a connection each, so that both workers get some
        seen[httpx.post(f"{service.url}/search", json={"text": "crane"}, timeout=30).status_code] += 1
    assert seen == {200: 24}
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    name = 'heritage_align_requests_total{method="POST",path="/search",status="200"}'
    assert [float(line.split()[-1]) for line in lines if line.startswith(name)] == [24]
    service.process.send_signal(signal.SIGHUP)
    service.wait_for("store opened again", 2)
    worker = next(line["event"] for line in service.lines if line["event"].startswith("Started server process"))
    os.kill(int(worker.split("[")[1][:-1]), signal.SIGKILL)
    service.wait_for("serving", 3)
    assert httpx.post(f"{service.url}/search", json={"text": "crane"}, timeout=30).status_code == 200
    assert service.stop() == 0
    assert not service.noise, service.noise


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_store_that_cannot_be_opened_ends_the_program_with_one_error(workers: int, tmp_path: Path) -> None:
    done = serve("late-interaction", "--store", str(tmp_path / "nowhere"), "--port", "0", "--workers", str(workers))
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1
    assert "there is no store" in done.stderr
    assert "Traceback" not in done.stderr


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(root / "plugins")])
    return subprocess.run(
        [sys.executable, "-m", "heritage_align", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=False,
    )

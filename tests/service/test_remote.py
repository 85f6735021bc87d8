"""Pictures by address: from hosts on the list, at public addresses, in bounded time and size; never by a detour."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from heritage_align.service.problems import Refused
from heritage_align.service.remote import _public, fetch
from heritage_align.service.settings import ServiceSettings


def picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, "PNG")
    return stream.getvalue()


class Handler(BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012  # the class is made anew for every server

    def do_GET(self) -> None:
        self.asked.append(f"{self.headers['Host']} {self.path}")
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("location", "http://169.254.169.254/latest/meta-data")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none" else 200)
        self.end_headers()
        if self.path == "/slow":
            for _ in range(40):
                self.wfile.write(b"x")
                time.sleep(0.1)
        elif self.path == "/large":
            self.wfile.write(b"x" * 5000)
        else:
            self.wfile.write(picture())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Fresh", (Handler,), {"asked": []}))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def asked(server: ThreadingHTTPServer) -> list[str]:
    found: list[str] = server.RequestHandlerClass.asked  # type: ignore[attr-defined]
    return found


def settings(**more: Any) -> ServiceSettings:
    return ServiceSettings(image_hosts=("localhost",), private_image_hosts=True, fetch_seconds=1, **more)


def refused(address: str, settings: ServiceSettings) -> str:
    with pytest.raises(Refused) as error:
        fetch(address, "documents.0", settings)
    assert error.value.status == 422
    return error.value.message


def test_a_picture_of_an_allowed_host(server: ThreadingHTTPServer) -> None:
    port = server.server_port
    assert fetch(f"http://localhost:{port}/蓝.png?x=1".replace("蓝", "%E8%93%9D"), "d", settings()) == picture()
    assert asked(server) == [f"localhost:{port} /%E8%93%9D.png?x=1"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/moved", "answered with status 302; redirects are not followed"),
        ("/none", "answered with status 404"),
        ("/large", "is larger than the limit of 4096 bytes"),
        ("/slow", "took longer than 1 s"),
        ("/a b", "cannot be had from localhost"),
        ("/蓝", "cannot be had from localhost"),
    ],
)
def test_what_a_host_may_not_do(server: ThreadingHTTPServer, path: str, said: str) -> None:
    assert said in refused(f"http://localhost:{server.server_port}{path}", settings(body_bytes=4096))


def test_a_host_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "cannot be had from localhost" in refused(f"http://localhost:{port}/", settings())


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{port}/a.png",  # not the name on the list
        "http://localhost@127.0.0.1:{port}/",
        "http://user:secret@localhost:{port}/",
        "http://evil.example:{port}/localhost",
        "http://localhost.evil.example:{port}/",
        "http://[::1]:{port}/",
        "http://0x7f000001:{port}/",
        "ftp://localhost/a.png",
        "file://localhost/etc/passwd",
        "http:///a.png",
        "http://localhost:99999/",
        "http://[::1",
    ],
)
def test_addresses_that_lead_elsewhere(server: ThreadingHTTPServer, address: str) -> None:
    assert refused(address.format(port=server.server_port), settings())
    assert asked(server) == []


def test_private_addresses_are_refused_unless_allowed(server: ThreadingHTTPServer) -> None:
    public_only = ServiceSettings(image_hosts=("localhost",))
    assert "the usual port" in refused(f"http://localhost:{server.server_port}/", public_only)
    assert refused("http://localhost/", public_only) == "documents.0: localhost has a private address"
    assert "fetches no pictures" in refused("http://localhost/", ServiceSettings())
    assert asked(server) == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("2002:a9fe:a9fe::", False),
        ("64:ff9b::7f00:1", False),
        ("2001:0:7f00:1::", False),
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert _public(address) is public

"""A small store of the motif collection by two recipes, the service in this process, and real ones beside it."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml
from PIL import Image
from starlette.testclient import TestClient

from heritage_align import build_index, dataset_sources
from heritage_align.config import Config
from heritage_align.pipeline import Pipeline, build_dataset
from heritage_align.recipes import load_recipe
from heritage_align.search import Searcher
from heritage_align.service.app import create_app
from heritage_align.service.served import Catalogue, Source
from heritage_align.service.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
SIZE = ["data.artworks=4", "data.variants=3", "runtime.device=cpu", "search.top_k=5", "search.candidates=8"]


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    """Recipe late-interaction, with regions, and global, without: twelve pictures of four artworks."""
    folder = tmp_path_factory.mktemp("served")
    found = []
    for name, more in (("late-interaction", ["fragmenter.name=punctuation"]), ("global", [])):
        config = load_recipe(name, [*SIZE, *more])
        build_index(Pipeline(config), list(dataset_sources(build_dataset(config))), folder / name)
        found.append(Source(config, folder / name))
    return found


@pytest.fixture(scope="session")
def catalogue(sources: list[Source]) -> Catalogue:
    return Catalogue(sources)


@pytest.fixture(scope="session")
def client(catalogue: Catalogue) -> Iterator[TestClient]:
    """The service in this process, limits as they are by default."""
    with TestClient(create_app(catalogue)) as client:
        yield client


@pytest.fixture
def limited(catalogue: Catalogue) -> Iterator[Callable[..., TestClient]]:
    """``limited(text_length=10)``: the service in this process with other limits."""
    clients: list[TestClient] = []

    def make(**settings: Any) -> TestClient:
        client = TestClient(create_app(catalogue, ServiceSettings(**settings)))
        client.__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture(scope="session")
def searchers(sources: list[Source]) -> dict[str, Searcher]:
    """Searchers of the same stores, opened on their own."""
    return {source.config.name: Searcher.open(Pipeline(source.config), source.store) for source in sources}


def encode(image: Image.Image, kind: str = "PNG") -> str:
    stream = io.BytesIO()
    image.save(stream, kind)
    return base64.b64encode(stream.getvalue()).decode()


@pytest.fixture(scope="session")
def base64_of() -> Callable[..., str]:
    """``base64_of(image, "JPEG")``."""
    return encode


def written(config: Config, folder: Path) -> Path:
    file = folder / f"{config.name}.yaml"
    file.write_text(yaml.safe_dump(config.as_dict(), allow_unicode=True), encoding="utf-8")
    return file


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """As the services of other processes: a product's last bits may hang on how many threads share it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Running:
    """A service of its own process.

    Attributes:
        process: of it.
        url: its address.
        lines: of its log, as they come.
    """

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "heritage_align", "serve", *arguments, "--port", "0"],
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
            text=True,
        )
        self.lines: list[dict[str, Any]] = []
        self.noise: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.port: int = self.wait_for("listening")["port"]
        self.url = f"http://127.0.0.1:{self.port}"

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.lines.append(json.loads(line))
            except json.JSONDecodeError:
                self.noise.append(line)

    def wait_for(self, event: str, count: int = 1, seconds: float = 60) -> dict[str, Any]:
        """Return the log's line of an event, the last of `count`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = [line for line in list(self.lines) if line["event"] == event]
            if len(found) >= count:
                return found[count - 1]
            assert self.process.poll() is None, (self.lines, self.noise)
            time.sleep(0.02)
        raise AssertionError(f"no {event}: {self.lines[-5:]} {self.noise[-5:]}")

    def stop(self) -> int:
        """Stop it as systemd does, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture(scope="session")
def started(sources: list[Source], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """``started(workers=2, store=PATH, also=False, environment={}, waiting=4)``: a real service; further names are
    its settings."""
    running: list[Running] = []

    def start(
        *,
        workers: int = 1,
        source: Source = sources[0],
        store: Path | None = None,
        also: bool = False,
        environment: dict[str, str] | None = None,
        **settings: Any,
    ) -> Running:
        folder = tmp_path_factory.mktemp("service")
        file = folder / "settings.yaml"
        file.write_text(yaml.safe_dump(settings))
        arguments = [str(written(source.config, folder)), "--store", str(store or source.store)]
        arguments += ["--workers", str(workers), "--settings", str(file)]
        for other in sources[1:] if also else []:
            arguments += ["--also", str(written(other.config, folder)), str(other.store)]
        running.append(Running(arguments, environment or {}))
        return running[-1]

    yield start
    for service in running:
        if service.process.poll() is None:
            service.process.kill()
        service.process.wait()


@pytest.fixture(scope="session")
def service(started: Callable[..., Running]) -> Running:
    """A real service of both recipes, limits as they are by default but for a short patience."""
    return started(also=True, header_seconds=1, body_seconds=1, write_seconds=1)


@pytest.fixture(scope="session")
def http(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client

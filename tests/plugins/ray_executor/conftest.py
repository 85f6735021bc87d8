"""One Ray cluster for all tests of this folder: a head without cores, and nodes of one core each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from PIL import Image
from ray.cluster_utils import Cluster

from heritage_align.pipeline import Pipeline

STORE = 80 * 2**20
"""Bytes of a node's object store; the least that Ray takes is 75 MiB."""

Made = Callable[..., Pipeline]


class Nodes:
    """The cluster's nodes; those that do work have one core each."""

    def __init__(self) -> None:
        # A node that is gone is noticed after some seconds: by default after half a minute.
        noticed = {"health_check_period_ms": 1000, "health_check_timeout_ms": 5000, "health_check_failure_threshold": 4}
        head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False, "_system_config": noticed}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address
        self._workers = [self._node() for _ in range(2)]

    def kill(self) -> None:
        """Kill a node with all that it does, as a power cut would, and start another one in its place."""
        self._cluster.remove_node(self._workers.pop(0), allow_graceful=False)
        self._workers.append(self._node())

    def working(self) -> list[int]:
        """Return the processes of the nodes that do something, by their title."""
        raylets = [node.all_processes["raylet"][0].process.pid for node in self._workers]
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except OSError:  # it has ended
                    continue
                if parent in raylets and title.startswith("ray::") and "IDLE" not in title:
                    found.append(int(entry.name))
        return found

    def shut_down(self) -> None:
        """End all of it."""
        ray.shutdown()
        self._cluster.shutdown()

    def _node(self) -> Any:
        return self._cluster.add_node(num_cpus=1, object_store_memory=STORE, include_dashboard=False)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # what is tested, also where it is not installed
        nodes = Nodes()
        yield nodes
        nodes.shut_down()


@pytest.fixture(scope="session")
def many_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures and two that cannot be read, one of which ends a shard."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(3)
    for number in range(40):
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder / f"图{number:02}.png")
    (folder / "图02x.png").write_bytes(b"\x89PNG\r\n\x1a\n truncated")
    (folder / "图07.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="session")
def made(scan: Pipeline, many_pictures: Path) -> Made:
    """A pipeline over these pictures: local, or with the executor's settings."""

    def of(executor: dict[str, Any] | None = None, *overrides: str) -> Pipeline:
        document = scan.config.as_dict()
        document["data"]["folder"] = str(many_pictures)
        document["proposer"]["count"] = 40
        document["store"]["shard_images"] = 5
        document["runtime"]["batch_size"] = 2
        document["executor"] = {"name": "local"} if executor is None else {"name": "ray", **executor}
        return Pipeline.from_config(document, overrides)

    return of

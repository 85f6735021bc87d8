"""The connection of this process to a cluster: made when it is first used, kept for as long as the process lives."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

import ray

from heritage_align.plugin import ConfigError
from heritage_align_plugins.ray_executor.config import RayExecutorConfig

ANSWERS = 5.0
"""Seconds in which a cluster's head must take a connection: Ray itself would go on asking for a minute."""
AT_AN_ADDRESS = "is its head running, and the port? One that asks for a token wants RAY_AUTH_MODE=token here too"
"""Ray turns tokens on by itself for a head, and for a driver with ``auto`` alone; what it raises does not say so."""
HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What a client of gRPC begins with: the preface, and a frame of settings that sets nothing."""
PASSED_ON = ("HERITAGE_ALIGN_PLUGINS", "HERITAGE_ALIGN_DISABLE_PLUGINS", "HERITAGE_ALIGN_STRICT")
"""What decides which plugins are found: workers find the same ones."""


def connect(config: RayExecutorConfig) -> None:
    """Connect this process to the cluster, or start one; a connection that there is already is used as it is.

    Raises:
        ConfigError: there is no cluster at the address.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as Ray will have it, and warns until then
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | config.env
    how: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if environment:
        how["runtime_env"] = {"env_vars": environment}
    if config.address is None:
        # "local": what RAY_ADDRESS names is another cluster's, which the config does not.
        ray.init(address="local", include_dashboard=False, **how)
        return
    if config.address != "auto":
        _refuse_silence(config.address)
    try:
        ray.init(address=config.address, **how)
    except (ConnectionError, RuntimeError, ValueError, AssertionError) as error:
        raise _none_at(config.address, str(error).splitlines()[0]) from error


def most_of(resource: str) -> float:
    """Return the most that one living node has of a resource, ``"CPU"`` or ``"GPU"``."""
    return max((found.get(resource, 0.0) for found in _resources()), default=0.0)


def room_of_nodes(cpus: int, gpus: float) -> list[int]:
    """Return how many workers of so many cores and GPUs each living node has room for."""
    rooms = []
    for found in _resources():
        rooms.append(int(found.get("CPU", 0.0) // cpus))
        if gpus:
            rooms[-1] = min(rooms[-1], int(found.get("GPU", 0.0) // gpus))
    return rooms


def _resources() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _refuse_silence(address: str) -> None:
    """Raise ConfigError where nothing listens, or nothing that speaks HTTP/2 as a head does: Ray would ask on."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS) as head:
            head.sendall(HTTP2_HELLO)
            # A frame's length (3 bytes), then its type: a server's first one is its settings, type 4 (RFC 9113, 3.4).
            if head.recv(4, socket.MSG_WAITALL)[3:] != b"\x04":
                raise OSError("what listens there is no head of a cluster")
    except (OSError, OverflowError) as error:
        raise _none_at(address, str(error)) from error


def _none_at(address: str, reason: str) -> ConfigError:
    how = "start one with: ray start --head --port=6379" if address == "auto" else AT_AN_ADDRESS
    return ConfigError([f"executor.address: there is no Ray cluster at {address} ({reason}); {how}"])

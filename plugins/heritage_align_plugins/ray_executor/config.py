"""Settings of the Ray executor."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from heritage_align.plugin import ComponentConfig

_HOST_AND_PORT = re.compile(r"auto|[^\s:/]+:\d{1,5}|\[[0-9a-fA-F:.]+\]:\d{1,5}")


class RayExecutorConfig(ComponentConfig):
    """Which cluster, and what a worker of it may take; nothing here changes a byte or a score."""

    address: str | None = Field(
        None,
        description="auto: the cluster that this machine is a node of; host:port of a cluster's head; none: start one "
        "on this machine, for as long as the command runs",
    )
    workers: int | None = Field(
        None, ge=1, description="processes that encode, or that hold parts of a store; by default as many as fit"
    )
    cpus: int = Field(1, ge=1, description="cores of a worker, as many as its threads")
    gpus: float | None = Field(
        None, ge=0, description="GPUs of a worker; by default 1 where the cluster has any and runtime.device is not cpu"
    )
    env: dict[str, str] = Field({}, description="environment variables of the workers")
    patience: float = Field(
        600, gt=0, description="seconds without an answer after which a build or a query ends with an error"
    )

    @field_validator("address")
    @classmethod
    def _names_a_head(cls, address: str | None) -> str | None:
        if address is not None and not _HOST_AND_PORT.fullmatch(address):
            raise ValueError("expected auto, or host:port of the cluster's head, for example 10.0.0.1:6379")
        return address

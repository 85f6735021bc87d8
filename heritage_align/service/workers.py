"""Run the service with uvicorn: one process, or several that share the port and the stores' mapped files."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging.config import dictConfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uvicorn import Server
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from heritage_align.errors import HeritageAlignError, Note
from heritage_align.service.logs import log_config, logger
from heritage_align.service.patience import PatientConfig
from heritage_align.service.settings import ServiceSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"
BACKLOG = 2048
ANSWERS_PARENT = 30
"""Seconds in which a worker must answer its parent, or is started anew; Python's lock may be held while it imports."""


@dataclass(frozen=True)
class Plan:
    """What a process builds the service from; travels to workers by pickle.

    Attributes:
        recipes: configuration as a document, what it is called in messages, and the store's folder.
        settings: of the service.
        threads: of torch in one process; None for as many as it takes by itself.
    """

    recipes: Sequence[tuple[Mapping[str, Any], str, Path]]
    settings: ServiceSettings
    threads: int | None = None

    def build(self) -> FastAPI:
        """Build pipelines, open stores and return the application.

        Raises:
            HeritageAlignError: a recipe or a store is at fault.
        """
        import torch

        from heritage_align.config import load_config
        from heritage_align.service.app import create_app
        from heritage_align.service.served import Catalogue, Source

        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the application listens to it: it would end the process
        warnings.simplefilter("ignore", Note)  # they quote texts that were asked; the answers say them
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        sources = [Source(load_config(document, label=label), store) for document, label, store in self.recipes]
        return create_app(Catalogue(sources), self.settings)

    def build_in_worker(self) -> FastAPI:
        """Build it, or end the process in the way that tells the parent that another try would end so too."""
        try:
            return self.build()
        except HeritageAlignError as error:
            logger.error("not started", extra={"fields": {"detail": str(error)}})
            sys.exit(STARTUP_FAILURE)


def serve(plan: Plan, host: str, port: int, workers: int) -> None:
    """Serve until SIGTERM or SIGINT; answers in progress are finished first. SIGHUP opens the stores again.

    The port is taken before models are loaded: a client that comes early waits.

    Raises:
        HeritageAlignError: a recipe or a store is at fault, or a worker did not start.
        OSError: the port cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=BACKLOG) as listener:
        dictConfig(log_config())
        address, number = listener.getsockname()[:2]
        fields = {"address": address, "port": number, "workers": workers}
        if workers == 1:
            config = _config(plan, plan.build())
            logger.info("listening", extra={"fields": fields})
            Server(config).run(sockets=[listener])
            return
        with tempfile.TemporaryDirectory(prefix="heritage-align-metrics-") as folder:
            os.environ[SHARED_METRICS] = folder
            listener.set_inheritable(True)
            logger.info("listening", extra={"fields": fields})
            supervisor = Workers(_config(plan, plan.build_in_worker, factory=True, workers=workers), [listener])
            supervisor.run()
        if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
            raise HeritageAlignError("serve: a worker did not start; the log above says why")


def _config(plan: Plan, app: Any, **more: Any) -> PatientConfig:
    settings = plan.settings
    return PatientConfig(
        app,
        header_seconds=settings.header_seconds,
        write_seconds=settings.write_seconds,
        header_bytes=settings.header_bytes,
        ws="none",
        lifespan="on",
        log_config=log_config(),
        access_log=False,
        server_header=False,
        limit_concurrency=settings.connections,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.stop_seconds,
        timeout_worker_healthcheck=ANSWERS_PARENT,
        **more,
    )


class Workers(Multiprocess):
    """uvicorn's processes, but that SIGHUP goes on to each of them: none is started anew, no connection is cut."""

    def handle_hup(self) -> None:
        """Tell every worker to open its stores again."""
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGHUP)

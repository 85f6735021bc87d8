"""The service as an ASGI application: what `create_app` returns runs under any ASGI server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from heritage_align import __version__
from heritage_align.errors import HeritageAlignError
from heritage_align.service import metrics, page_files
from heritage_align.service.batching import Batcher
from heritage_align.service.gate import ID_HEADER, Gate
from heritage_align.service.logs import logger
from heritage_align.service.pictures import Renditions
from heritage_align.service.problems import (
    Refused,
    answer_fault_of_request,
    answer_http,
    answer_invalid,
    answer_refused,
)
from heritage_align.service.routes import router
from heritage_align.service.served import Catalogue
from heritage_align.service.settings import ServiceSettings
from heritage_align.service.state import Service

PICTURE_THREADS = 2
OPEN = ("/health", "/openapi.json")
"""Paths that need no token. /health says less without one."""


def create_app(catalogue: Catalogue, settings: ServiceSettings | None = None) -> FastAPI:
    """Make the application.

    Args:
        catalogue: what is served; it stays open when the app ends.
        settings: the limits; those by default.
    """
    settings = settings or ServiceSettings()
    service = Service(
        catalogue,
        settings,
        Renditions(settings.picture_cache),
        ThreadPoolExecutor(PICTURE_THREADS, thread_name_prefix="pictures"),
    )

    app = FastAPI(
        title="heritage-align",
        version=__version__,
        description="Search and rerank pictures by texts, details and both, at the level of regions and phrases.",
        lifespan=_run,
        docs_url=None,  # their scripts come from another host
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.state.service = service
    app.include_router(router)
    if settings.page:
        app.include_router(page_files.router)
    app.add_exception_handler(Refused, answer_refused)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(HeritageAlignError, answer_fault_of_request)
    app.add_middleware(
        Gate,
        settings=settings,
        open_paths=lambda path: path in OPEN or not _asks_for_data(path),
        picture_path=lambda path: path.startswith("/items/"),
        seconds=lambda: service.batcher.seconds if service.batcher is not None else 0.0,
    )
    if settings.cors_origins:  # outermost: a page may read why it was refused, and asks first without a token
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", ID_HEADER],
            expose_headers=[ID_HEADER, "retry-after"],
        )
    return app


DATA = ("/search", "/rerank", "/v1/", "/v2/", "/explain", "/items", "/recipes", "/metrics")


def _asks_for_data(path: str) -> bool:
    """Say whether a path gives something of the collection; the files of a page do not."""
    return path.startswith(DATA)


@contextlib.asynccontextmanager
async def _run(app: FastAPI) -> AsyncIterator[None]:
    """Have the batcher, and look after the stores, while the app runs."""
    service: Service = app.state.service
    settings, loop = service.settings, asyncio.get_running_loop()
    service.batcher = Batcher(settings.batch, settings.batch_window, metrics.observe_call)
    asked = asyncio.Event()
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread:  # elsewhere Python takes no signals
        loop.add_signal_handler(signal.SIGHUP, asked.set)
    watch = asyncio.create_task(_watch(service, asked))
    logger.info("serving", extra={"fields": {"recipes": list(service.catalogue)}})
    try:
        yield
    finally:
        if in_main_thread:
            loop.remove_signal_handler(signal.SIGHUP)
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        service.batcher.close()
        service.pictures.shutdown(wait=True)
        logger.info("stopped")


async def _watch(service: Service, asked: asyncio.Event) -> None:
    """Look at the stores every `reload_seconds`; a SIGHUP opens them all again, whether they changed or not."""
    while True:
        always = False
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asked.wait(), service.settings.reload_seconds)
            always = True
            asked.clear()
        try:
            await asyncio.to_thread(service.reload, always=always)
        except Exception:  # whatever it was, the next look comes
            logger.exception("stores not looked at")

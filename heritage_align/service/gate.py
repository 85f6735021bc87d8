"""What every request passes: an id, the token, limits, a place in the queue; and what is counted and logged of it."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heritage_align.service import metrics
from heritage_align.service.logs import logger
from heritage_align.service.problems import Refused, problem_response
from heritage_align.service.settings import ServiceSettings

ID_HEADER = "x-request-id"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Gate:
    """Lets requests in, one place a request, and gives each an id.

    A request has its place from the moment its body is there: a client that sends slowly holds a connection and none of
    the places. When all are taken, requests are told so before their bodies are read.

    Args:
        app: behind the gate.
        settings: the limits.
        open_paths: that need no token: /health, and pages without data.
        picture_path: says whether a path gives a picture; these have places of their own.
        seconds: that a question takes now, for Retry-After.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServiceSettings,
        *,
        open_paths: Callable[[str], bool],
        picture_path: Callable[[str], bool],
        seconds: Callable[[], float],
    ) -> None:
        self._app, self._settings = app, settings
        self._open_paths, self._picture_path, self._seconds = open_paths, picture_path, seconds
        self._token = None if settings.token is None else settings.token.get_secret_value().encode()
        self._questions = self._pictures = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or tell the client why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get(ID_HEADER, "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"], state["bears_token"] = request_id, self._bears_token(headers)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[ID_HEADER] = request_id
            await send(message)

        try:
            await self._let_in(scope, headers, receive, answer)
        except Refused as problem:
            state["detail"] = problem.detail or problem.message
            response = problem_response(problem, request_id)
            if problem.status in (408, 413):  # the rest of the body is not read
                response.headers["connection"] = "close"
            await response(scope, receive, answer)
        except Exception:
            logger.exception("fault", extra={"fields": {"request_id": request_id, "path": scope["path"]}})
            if status:
                raise  # half an answer: the connection is cut
            await problem_response(Refused(500, "a fault of the service; its log says more"), request_id)(
                scope, receive, answer
            )
        finally:
            self._tell(scope, status, time.perf_counter() - start)

    async def _let_in(self, scope: Scope, headers: Headers, receive: Receive, answer: Send) -> None:
        path, asks = scope["path"], scope["method"] == "POST"
        if not scope["state"]["bears_token"] and not self._open_paths(path):
            raise Refused(401, "expected the header Authorization: Bearer TOKEN")
        shows = not asks and self._picture_path(path)
        self._refuse_crowd(asks, shows)
        if asks:
            if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                # Other kinds can be sent by a page of another origin that nobody allowed.
                raise Refused(415, "expected a body with the header Content-Type: application/json")
            receive = _again(await self._body(headers, receive))
            self._refuse_crowd(asks, shows)
        self._count(asks, shows, 1)
        try:
            await self._app(scope, receive, answer)
        finally:
            self._count(asks, shows, -1)

    def _bears_token(self, headers: Headers) -> bool:
        if self._token is None:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token)

    def _refuse_crowd(self, asks: bool, shows: bool) -> None:
        settings = self._settings
        if (asks and self._questions >= settings.waiting) or (shows and self._pictures >= settings.picture_waiting):
            metrics.SHED.inc()
            retry = max(1, math.ceil(self._questions * self._seconds())) if asks else 1
            message = "too many requests are in progress; ask again later"
            raise Refused(429, message, retry_after=retry)

    def _count(self, asks: bool, shows: bool, by: int) -> None:
        self._questions += by * asks
        self._pictures += by * shows
        if asks or shows:
            metrics.IN_PROGRESS.inc(by)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """Return the whole body; it is small, as the limit says."""
        most = self._settings.body_bytes
        too_large = Refused(413, f"the body is larger than the limit of {most} bytes")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > most:
            raise too_large
        pieces, total, more = [], 0, True

        async def read() -> None:
            nonlocal total, more
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refused(408, "the client has gone")
                pieces.append(message.get("body", b""))
                total += len(pieces[-1])
                if total > most:
                    raise too_large
                more = message.get("more_body", False)

        try:
            await asyncio.wait_for(read(), self._settings.body_seconds)
        except asyncio.TimeoutError:
            seconds = self._settings.body_seconds
            raise Refused(408, f"the body was not there after {seconds:g} s") from None
        return b"".join(pieces)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path_format", None) or "other"
        metrics.REQUESTS.labels(scope["method"] if path != "other" else "other", path, str(status)).inc()
        metrics.REQUEST_SECONDS.labels(path).observe(seconds)
        level = logging.WARNING if status >= 500 or not status else logging.INFO
        if logger.isEnabledFor(level):
            state = scope["state"]
            fields = {
                "request_id": state["request_id"],
                "method": scope["method"],
                "path": path,
                "status": status,
                "ms": round(seconds * 1000, 2),
                "client": scope["client"][0] if scope.get("client") else None,
            }
            if "detail" in state:
                fields["detail"] = state["detail"]
            logger.log(level, "request", extra={"fields": {**fields, **state.get("fields", {})}})


def _again(body: bytes) -> Receive:
    """Return what hands a body that was read to the app, and after it that the client has gone."""
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive

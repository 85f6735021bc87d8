"""What is answered instead of a result: one sentence, a status, and the request's id."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from heritage_align.service.schemas import Problem

SENTENCES = {404: "there is no such page", 405: "this page does not take that method"}


class Refused(Exception):
    """A request that cannot be answered.

    Args:
        status: of HTTP.
        message: one sentence for the client; names no file of this machine.
        retry_after: seconds, where asking again helps.
        faults: the places of a body that are at fault, and why.
        detail: for the log.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        retry_after: int | None = None,
        faults: Sequence[tuple[str, str]] = (),
        detail: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after, self.faults, self.detail = (
            status,
            message,
            retry_after,
            tuple(faults),
            detail,
        )


def problem_response(problem: Refused, request_id: str) -> Response:
    """Put a problem into a response."""
    body: dict[str, Any] = {"message": problem.message, "request_id": request_id}
    if problem.faults:
        body["faults"] = [{"place": place, "message": message} for place, message in problem.faults]
    headers = {} if problem.retry_after is None else {"retry-after": str(problem.retry_after)}
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(json.dumps(body), problem.status, headers, "application/json")


async def answer_refused(request: Request, error: Exception) -> Response:
    """Answer a `Refused`."""
    assert isinstance(error, Refused)
    request.state.detail = error.detail or error.message
    return problem_response(error, request.state.request_id)


async def answer_fault_of_request(request: Request, error: Exception) -> Response:
    """Answer what the library says of a request's text or pictures."""
    return await answer_refused(request, Refused(422, str(error)))


async def answer_http(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: an unknown page, a wrong method, a body that is no JSON."""
    assert isinstance(error, HTTPException)
    if error.status_code == 400:  # of a body that Python's reader gave up
        error.detail = "the body is no JSON"
    refused = Refused(error.status_code, SENTENCES.get(error.status_code, str(error.detail)))
    response = problem_response(refused, request.state.request_id)
    response.headers.update(error.headers or {})
    return response


async def answer_invalid(request: Request, error: Exception) -> Response:
    """Answer a request whose body or parameters do not fit their description; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)
    if any(fault["type"] == "json_invalid" for fault in error.errors()):
        return problem_response(Refused(400, "the body is no JSON"), request.state.request_id)
    faults = [(".".join(map(str, fault["loc"])), str(fault["msg"])) for fault in error.errors()]
    first = f"{faults[0][0]}: {faults[0][1]}" if faults else "the request is not what it should be"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return problem_response(Refused(422, first + more, faults=faults[:20]), request.state.request_id)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the problems that a page may answer with, for OpenAPI."""
    what = {
        400: "The body is no JSON.",
        401: "The token is missing or wrong.",
        404: "There is no such recipe, picture or page.",
        408: "The body did not come in time.",
        413: "The body is too large.",
        415: "The body is of another type than application/json.",
        422: "The request is not what it should be; the message says what.",
        429: "Too many requests are in progress; ask again after Retry-After seconds.",
        503: "The store cannot be read, or the answer took too long; ask again after Retry-After seconds.",
    }
    retry = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
    return {
        status: {"model": Problem, "description": what[status], **({"headers": retry} if status in (429, 503) else {})}
        for status in (401, *statuses)
    }

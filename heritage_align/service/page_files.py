"""The page at ``/``: its files come with the package, are read once, and load nothing from elsewhere.

Only the names that are listed here are given out. The headers allow the page its own scripts, styles and answers and
nothing else: no script within the HTML, no other host, no frame around it, no address of it in a referrer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.responses import Response

from heritage_align.service.problems import Refused

KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",  # pictures are fetched, with the token where there is one, and shown from memory
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # asked again by its tag: files of two versions never meet
}
router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class _File:
    data: bytes
    kind: str
    tag: str


@router.get("/")
async def page(request: Request) -> Response:
    """Return the page."""
    return _answer(request, "index.html")


@router.get("/page/{name}")
async def file(request: Request, name: str) -> Response:
    """Return a file of the page."""
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    found = _files().get(name)
    if found is None:
        raise Refused(404, "there is no such page")
    headers = {**HEADERS, "etag": found.tag}
    if found.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(found.data, headers={**headers, "content-type": f"{found.kind}; charset=utf-8"})


@cache
def _files() -> Mapping[str, _File]:
    found = {}
    for entry in files("heritage_align.service").joinpath("page").iterdir():
        kind = KINDS.get(entry.name.rpartition(".")[2])
        if kind is not None:
            data = entry.read_bytes()
            found[entry.name] = _File(data, kind, f'"{hashlib.sha256(data).hexdigest()[:24]}"')
    return found

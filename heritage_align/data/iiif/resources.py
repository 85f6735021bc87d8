"""What a manifest names: files below a folder, addresses of the web where that is allowed, and what was kept."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import Request, build_opener

from heritage_align.data.pictures import path_below
from heritage_align.errors import ImageError
from heritage_align.store.files import write_atomically

ALLOW = "--allow-network (data.allow_network) fetches it"
MOST_DOCUMENT, MOST_PICTURE = 256 * 2**20, 2**30
"""Bytes; what is longer is no manifest, or no picture that an image service should give."""
_WAIT = (0.5, 2.0)  # seconds before a busy server is asked again
_BUSY = (429, 500, 502, 503, 504)


class Missing(ImageError):
    """There is no such file or address (404): another form of the address may be there."""


def is_remote(address: str) -> bool:
    """Say whether an address is one of the web."""
    return address.lstrip().lower().startswith(("http:", "https:"))  # urlsplit raises ValueError for http://[


class Resources:
    """Reads what manifests name; may be used by several threads.

    Args:
        root: folder that files must be below, and that relative names are of.
        base: address that relative names are of instead, where the first manifest came from the web.
        allow_network: whether addresses of the web are fetched.
        cache: folder where what was fetched is kept, and found without the network; None keeps nothing.
        timeout: seconds without an answer.
    """

    def __init__(
        self, root: Path, *, base: str | None, allow_network: bool, cache: Path | None, timeout: float
    ) -> None:
        self._root, self._base = root, base
        self._allowed, self._cache, self._timeout = allow_network, cache, timeout
        self._opener = build_opener()  # which follows redirects to the web alone, never to a file
        self._lock = Lock()

    def place(self, address: str) -> str | Path:
        """Return the address of the web, or the file, that a name stands for; raises ImageError for one outside."""
        try:
            whole = urljoin(self._base, address) if self._base is not None else address
        except ValueError as error:
            raise ImageError(f"{address}: is no address: {error}") from None
        if is_remote(whole):
            return whole
        if self._base is not None:
            raise ImageError(f"{address}: is a file, and the manifest is of the web")
        try:
            return path_below(self._root, whole)[1]
        except ValueError as error:
            raise ImageError(str(error)) from None

    def read(self, address: str, most: int) -> bytes:
        """Return the bytes at an address.

        Raises:
            Missing: there is nothing.
            ImageError: it cannot be read, is too long, or the network is not allowed.
        """
        place = self.place(address)
        if isinstance(place, Path):
            return _read_file(place, most)
        kept = self._kept(place)
        if kept is not None and kept.is_file():
            return _read_file(kept, most)
        if not self._allowed:
            raise ImageError(f"{place}: is on the web; {ALLOW}")
        data = self._fetch(place, most)
        if kept is not None:
            self._keep(kept, data)
        return data

    def json(self, address: str) -> Any:
        """Return a JSON document; raises ImageError as `read`, and where it is none."""
        data = self.read(address, MOST_DOCUMENT)
        try:
            return json.loads(data)  # of UTF-8, UTF-16 or UTF-32, by its beginning
        except (ValueError, RecursionError) as error:
            raise ImageError(f"{address}: is not JSON: {str(error)[:100]}") from error

    def _kept(self, address: str) -> Path | None:
        if self._cache is None:
            return None
        digest = hashlib.sha256(address.encode()).hexdigest()
        return self._cache / digest[:2] / digest

    def _keep(self, kept: Path, data: bytes) -> None:
        def write(temporary: Path) -> None:
            temporary.write_bytes(data)

        with self._lock:  # the temporary file is named by the process, and two threads may fetch the same picture
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, write)

    def _fetch(self, address: str, most: int) -> bytes:
        for wait in (*_WAIT, None):
            try:
                return self._ask(address, most)
            except HTTPError as error:
                if error.code in (404, 410):
                    raise Missing(f"{address}: there is no such thing (HTTP {error.code})") from error
                if error.code not in _BUSY or wait is None:
                    raise ImageError(f"{address}: the server answers HTTP {error.code} {error.reason}") from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                if wait is None or isinstance(error, ValueError):
                    reason = getattr(error, "reason", None) or error
                    raise ImageError(f"{address}: cannot be fetched: {reason}") from error
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _ask(self, address: str, most: int) -> bytes:
        asked = Request(address, headers={"User-Agent": "heritage-align", "Accept": "*/*"})
        with self._opener.open(asked, timeout=self._timeout) as answer:
            data: bytes = answer.read(most + 1)
        if len(data) > most:
            raise ImageError(f"{address}: is longer than {most:,} bytes")
        return data


def _read_file(path: Path, most: int) -> bytes:
    try:
        if path.stat().st_size > most:
            raise ImageError(f"{path}: is longer than {most:,} bytes")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Missing(f"{path}: no such file") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror or error}") from error

"""uvicorn's protocol with an end to patience: for headers that do not come, and for answers that nobody reads.

uvicorn itself ends only connections that are idle between two requests.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class PatientConfig(Config):
    """uvicorn's configuration with the two times; travels to workers by pickle.

    Args:
        header_seconds: from a connection, or a request's first byte, to the end of its headers.
        write_seconds: that a client may leave an answer unread.
    """

    def __init__(self, app: Any, *, header_seconds: float, write_seconds: float, **options: Any) -> None:
        self.header_seconds, self.write_seconds = header_seconds, write_seconds
        super().__init__(app, http=PatientProtocol, **options)


class PatientProtocol(HttpToolsProtocol):
    """Cuts off a connection whose client is too slow."""

    config: PatientConfig
    _headers_due: asyncio.TimerHandle | None = None
    _read_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for headers."""
        super().connection_made(transport)
        self._expect_headers()

    def on_message_begin(self) -> None:
        """Begin to wait for the headers of another request of the connection."""
        super().on_message_begin()
        if self._headers_due is None:
            self._expect_headers()

    def on_headers_complete(self) -> None:
        """The headers are there."""
        self._stop_expecting_headers()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read."""
        super().pause_writing()
        if self._read_due is None:
            self._read_due = self.loop.call_later(self.config.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        self._stop_expecting_reader()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_expecting_headers()
        self._stop_expecting_reader()
        super().connection_lost(exc)

    def _expect_headers(self) -> None:
        self._headers_due = self.loop.call_later(self.config.header_seconds, self.transport.abort)

    def _stop_expecting_headers(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _stop_expecting_reader(self) -> None:
        if self._read_due is not None:
            self._read_due.cancel()
            self._read_due = None

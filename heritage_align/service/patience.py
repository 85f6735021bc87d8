"""uvicorn's protocol with an end to patience: for headers that do not come or do not end, and for answers that nobody
reads.

uvicorn itself ends only connections that are idle between two requests, and its parser keeps headers of any size.
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
        header_bytes: of a request's address and headers.
    """

    def __init__(
        self, app: Any, *, header_seconds: float, write_seconds: float, header_bytes: int, **options: Any
    ) -> None:
        self.header_seconds, self.write_seconds, self.header_bytes = header_seconds, write_seconds, header_bytes
        super().__init__(app, http=PatientProtocol, **options)


class PatientProtocol(HttpToolsProtocol):
    """Cuts off a connection whose client is too slow, or whose headers are too large."""

    config: PatientConfig
    _headers_due: asyncio.TimerHandle | None = None
    _read_due: asyncio.TimerHandle | None = None
    _header_bytes = 0  # of the address and the headers that the parser told of
    _unfinished = 0  # bytes that came since these headers began, and did not end them

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for headers."""
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Read on; a header that does not end is none of those that the parser tells of."""
        due = self._headers_due
        super().data_received(data)
        if due is not None and due is self._headers_due and not self.transport.is_closing():
            self._unfinished += len(data)
            if self._unfinished > self.config.header_bytes:
                self.send_400_response("")

    def on_url(self, url: bytes) -> None:
        """Count the address."""
        self._count_header(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header, with its colon, blank and line end."""
        self._count_header(len(name) + len(value) + 4)
        super().on_header(name, value)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or one whose headers are too large."""
        most = self.config.header_bytes
        too_large = max(self._header_bytes, self._unfinished) > most
        super().send_400_response(f"The headers are larger than the limit of {most} bytes." if too_large else msg)

    def on_message_begin(self) -> None:
        """Begin to wait for the headers of another request of the connection."""
        self._header_bytes = 0
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

    def _count_header(self, length: int) -> None:
        self._header_bytes += length
        if self._header_bytes > self.config.header_bytes:
            raise ValueError  # the parser ends, and uvicorn refuses the request

    def _expect_headers(self) -> None:
        self._unfinished = 0
        self._headers_due = self.loop.call_later(self.config.header_seconds, self.transport.abort)

    def _stop_expecting_headers(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _stop_expecting_reader(self) -> None:
        if self._read_due is not None:
            self._read_due.cancel()
            self._read_due = None

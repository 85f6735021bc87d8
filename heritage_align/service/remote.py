"""Pictures by address, from hosts that the settings name: the one place where a request makes this machine ask another.

The host's name must be on the list to the letter, the port the scheme's own, every address that the name has a public
one (`ipaddress`, unless the settings allow private ones), and the connection goes to the address that was looked at, so
that a name that changes between look and connection leads nowhere. Redirects are not followed.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from urllib.parse import SplitResult, urlsplit

from heritage_align import __version__
from heritage_align.service.problems import Refused
from heritage_align.service.settings import ServiceSettings

PORTS = {"http": 80, "https": 443}
PIECE = 2**16
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Addresses of IPv4 in their last 32 bits (RFC 6052)."""


def fetch(address: str, name: str, settings: ServiceSettings) -> bytes:
    """Return what an address holds.

    Args:
        address: http or https.
        name: of the document, for messages.
        settings: hosts, bytes and seconds.

    Raises:
        Refused: the host is not allowed, or the picture cannot be had (422).
    """
    parts = _allowed(address, name, settings)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    deadline = time.monotonic() + settings.fetch_seconds
    connection = _Pinned(host, port, _address_of(host, port, name, settings), parts.scheme, settings.fetch_seconds)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": f"heritage-align/{__version__}", "Accept": "image/*"})
        response = connection.getresponse()
        if response.status != 200:
            moved = "; redirects are not followed" if 300 <= response.status < 400 else ""
            raise Refused(422, f"{name}: {host} answered with status {response.status}{moved}")
        return _body(response, name, host, settings, deadline)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: control characters in a path
        raise Refused(422, f"{name}: cannot be had from {host}", detail=f"{address[:200]}: {error}") from error
    finally:
        connection.close()


def _allowed(address: str, name: str, settings: ServiceSettings) -> SplitResult:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise Refused(422, f"{name}: is no address") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise Refused(422, f"{name}: expected an address with http or https, a data URI, or base64")
    if not settings.image_hosts:
        raise Refused(422, f"{name}: this service fetches no pictures; send it as base64, or name one of the store")
    if parts.hostname not in settings.image_hosts or parts.username is not None or parts.password is not None:
        raise Refused(422, f"{name}: its host is not one that this service fetches pictures from")
    if port not in (None, PORTS[parts.scheme]) and not settings.private_image_hosts:
        raise Refused(422, f"{name}: expected the usual port of {parts.scheme}")
    return parts


def _address_of(host: str, port: int, name: str, settings: ServiceSettings) -> str:
    """Return an address of a host, every one of which may be asked."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise Refused(422, f"{name}: {host} is not known here", detail=str(error)) from error
    if not settings.private_image_hosts and not all(_public(address) for address in found):
        raise Refused(422, f"{name}: {host} has a private address")
    return sorted(found, key=lambda address: (":" in address, address))[0]


def _public(address: str) -> bool:
    """Say whether an address is one of the public net; one in the clothes of IPv6 is looked at as what it is."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        translated = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF) if found in NAT64 else None
        found = found.ipv4_mapped or found.sixtofour or translated or found
    return found.is_global and not found.is_multicast


def _body(
    response: http.client.HTTPResponse, name: str, host: str, settings: ServiceSettings, deadline: float
) -> bytes:
    pieces, total = [], 0
    while piece := response.read1(PIECE):
        total += len(piece)
        if total > settings.body_bytes:
            raise Refused(422, f"{name}: is larger than the limit of {settings.body_bytes} bytes")
        if time.monotonic() > deadline:
            raise Refused(422, f"{name}: {host} took longer than {settings.fetch_seconds:g} s")
        pieces.append(piece)
    return b"".join(pieces)


class _Pinned(http.client.HTTPConnection):
    """A connection to one address of a host; over TLS the certificate must be the host's."""

    def __init__(self, host: str, port: int, address: str, scheme: str, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._address, self._tls = address, scheme == "https"

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

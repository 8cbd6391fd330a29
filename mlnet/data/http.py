"""Downloads over http and https of links that nobody vouches for.

The address is checked where it counts: on the IP address to which the socket connects, for the first request
and for every redirect, so that neither a name that resolves differently a second time nor a redirect leads
into the operator's own network. Proxies named by the environment are not used, because they would connect in
our place.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from urllib.parse import SplitResult, urljoin, urlsplit

from mlnet.errors import DataError

MAX_REDIRECTS = 5
"""Each may lead to another host. A link to a file takes one or two; more go in circles."""
CHUNK_BYTES = 256 << 10
"""Bytes that are read, counted and hashed at a time."""
_CONNECT_SECONDS = 10.0
"""For one of the addresses of a host, so that a dead one does not use up the time of the transfer."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Interrupter:
    """Ends a download from another thread: closes the connection that it waits on.

    A server that sends one byte now and then never lets a socket's own timeout expire; the owner of the
    deadline calls :meth:`interrupt`.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.interrupted = False

    def watch(self, connection: socket.socket) -> None:
        """Name the socket that is in use now; raise InterruptedError if the download has been interrupted."""
        self._socket = connection
        if self.interrupted:
            raise InterruptedError("interrupted")

    def interrupt(self) -> None:
        """Make the thread that reads or writes the socket fail with an OSError now."""
        self.interrupted = True
        if self._socket is not None:
            try:
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                return  # already closed, which is what is wanted


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public Internet: not private, loopback, link-local, multicast or
    reserved.

    An IPv4 address that travels inside an IPv6 address (mapped, 6to4, Teredo, NAT64) is judged by itself.
    """
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def download(
    url: str,
    sink: Callable[[bytes], None],
    *,
    max_bytes: int,
    seconds: float,
    allow_private: bool,
    interrupter: Interrupter,
) -> int:
    """Give the body of a URL to ``sink``, piece by piece. Blocks; call it in a thread.

    Args:
        url: http:// or https://.
        sink: takes at most :data:`CHUNK_BYTES` a call; what it raises ends the download.
        max_bytes: a longer body is refused.
        seconds: from now to the last byte.
        allow_private: also connect to addresses that are not of the public Internet.
        interrupter: ends the download early.

    Returns:
        Bytes of the body.

    Raises:
        DataError: the link is refused, unreachable, too slow or too large.
    """
    deadline = time.monotonic() + seconds
    try:
        for _ in range(MAX_REDIRECTS + 1):
            connection = _connect(_checked(url), deadline, allow_private, interrupter)
            with closing(connection), _request(connection, url) as response:
                if response.status in _REDIRECTS:
                    url = urljoin(url, response.getheader("Location") or "")
                    continue
                if response.status != 200:
                    raise DataError(f"{url} answered {response.status} {response.reason}; check the link")
                return _read_body(response, url, sink, max_bytes, deadline)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if interrupter.interrupted or time.monotonic() >= deadline:
            raise DataError(f"{url} did not arrive within {seconds:.0f} s; use a faster server") from error
        raise DataError(f"{url} cannot be fetched: {error}; check the link") from error
    raise DataError(f"{url}: more than {MAX_REDIRECTS} redirects; link to the file itself")


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DataError(f"{url!r} is not an http or https link")
    if parts.username is not None or any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise DataError(f"{url!r} holds a user name or a control character; links may not")
    return parts


def _connect(
    parts: SplitResult, deadline: float, allow_private: bool, interrupter: Interrupter
) -> http.client.HTTPConnection:
    """A connection to the first address of the host that may be used and that answers."""
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    refused: list[str] = []
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        ip = str(address[0])
        if not allow_private and not is_public(ip):
            refused.append(ip)
            continue
        raw = socket.socket(family, kind, protocol)
        try:
            interrupter.watch(raw)
            raw.settimeout(max(0.1, min(_CONNECT_SECONDS, deadline - time.monotonic())))
            raw.connect(address)
            if parts.scheme == "https":
                raw = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
            interrupter.watch(raw)
        except OSError as error:
            raw.close()
            failure = error
            continue
        connection = http.client.HTTPConnection(host, port)
        connection.sock = raw
        return connection
    if failure is None and refused:
        raise DataError(
            f"{parts.geturl()} leads to {refused[0]}, which is not a public address; the operator of a node"
            " may"
            " allow private addresses"
        )
    raise failure or OSError(f"{host} has no address")


def _request(connection: http.client.HTTPConnection, url: str) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    default = 443 if parts.scheme == "https" else 80
    host = parts.netloc if parts.port not in (None, default) else parts.netloc.removesuffix(f":{default}")
    connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
    for name, value in (
        ("Host", host),
        ("Accept-Encoding", "identity"),
        ("User-Agent", "mlnet"),
        ("Connection", "close"),
    ):
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


def _read_body(
    response: http.client.HTTPResponse,
    url: str,
    sink: Callable[[bytes], None],
    max_bytes: int,
    deadline: float,
) -> int:
    if response.length is not None and response.length > max_bytes:
        raise DataError(f"{url} has {response.length} bytes, but {max_bytes} were expected; check the link")
    received = 0
    while chunk := response.read1(CHUNK_BYTES):
        received += len(chunk)
        if received > max_bytes:
            raise DataError(f"{url} has more than the expected {max_bytes} bytes; check the link")
        if time.monotonic() > deadline:
            raise TimeoutError("deadline")
        sink(chunk)
    return received

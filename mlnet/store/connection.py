"""A connection of redis-py that reads no more and no longer than its caller allows.

The server may be hostile. redis-py's ``socket_timeout`` bounds the pause between two pieces of a reply, but
neither the whole time nor the size of the reply.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from redis import UnixDomainSocketConnection

from mlnet.errors import StoreError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class ReplyBudget(threading.local):
    """The time and the bytes that the current call of this thread may take.

    Attributes:
        until: time.monotonic() at which the call ends; nothing is sent or read after it.
        most: bytes that the reply may have.
        left: bytes of these that are left.
    """

    until = 0.0
    most = left = 0

    def grant(self, until: float, most: int) -> None:
        """Begin a call."""
        self.until, self.most = until, most
        self.left = most


class BoundedConnection(UnixDomainSocketConnection):
    """A connection whose calls keep to the budget of the thread that makes them.

    Args:
        budget: shared by the connections of a pool.
        options: of redis-py.
    """

    def __init__(self, *, budget: ReplyBudget, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._budget = budget

    def _connect(self) -> socket.socket:
        plain: socket.socket = super()._connect()  # type: ignore[no-untyped-call]
        # redis-py offers no hook for its socket, so the descriptor moves to a socket of our class.
        bounded = _Socket(fileno=plain.detach())
        bounded.budget = self._budget
        bounded.settimeout(self.socket_timeout)
        return bounded


class _Socket(socket.socket):
    budget: ReplyBudget

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        with _Hurry(self):
            data = super().recv(size, flags)
        self._count(len(data))
        return data

    def recv_into(self, buffer: WriteableBuffer, size: int = 0, flags: int = 0, /) -> int:
        with _Hurry(self):
            count = super().recv_into(buffer, size, flags)
        self._count(count)
        return count

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        with _Hurry(self):
            super().sendall(data, flags)

    def _count(self, octets: int) -> None:
        self.budget.left -= octets
        if self.budget.left < 0:
            raise StoreError(f"the Redis server's answer is larger than {self.budget.most} bytes")


class _Hurry:
    """Shortens a socket's timeout to what is left of the budget."""

    def __init__(self, sock: _Socket) -> None:
        self._socket, self._timeout = sock, sock.gettimeout()

    def __enter__(self) -> None:
        left = self._socket.budget.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time of the call is over")
        if self._timeout is None or left < self._timeout:
            self._socket.settimeout(left)

    def __exit__(self, *_: object) -> None:
        # The call may have closed the socket.
        if self._socket.fileno() >= 0:
            self._socket.settimeout(self._timeout)

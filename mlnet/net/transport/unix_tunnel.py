"""Unix sockets whose connections become libp2p streams. Everything here runs in the trio thread.

Unix sockets rather than loopback TCP: file permissions keep other users out, a caller can be told by its
name, and gRPC is faster over them.
"""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import socket
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from mlnet.errors import ConfigError
from mlnet.net.muxer.base import Stream
from mlnet.net.transport.listening import BACKLOG
from mlnet.net.types import MAX_PREAMBLE_BYTES
from mlnet.util import sockets

logger = logging.getLogger(__name__)
# A letter, the process id in hexadecimal (at most 6 digits on Linux), a dot, and a counter.
_LONGEST_NAME = 24
PREAMBLE_SECONDS = 10.0
"""Time for the preamble of a spliced stream. Until then the stream counts among the peer's, and an idle one
would hold its place."""


class RuntimeDir:
    """A private directory of unix sockets, in which no name is used twice.

    Attributes:
        path: of the directory; a new one after somebody has removed the first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._numbers = itertools.count()
        # Abstract names are visible to all users of the machine: nobody may guess the next one and bind it
        # first.
        self._secret = secrets.token_hex(8)
        self._prepared = False
        self._instead: sockets.Directory | None = None

    def prepare(self) -> None:
        """Make the directory.

        Raises:
            ConfigError: it cannot be made, is not private, or its path is too long for a unix socket.
        """
        # Checked here, with the numbers: bind() would fail later, with "AF_UNIX path too long", for a name
        # that the user has never seen.
        if len(os.fsencode(self.path)) + 1 + _LONGEST_NAME > sockets.LONGEST_PATH:
            raise ConfigError(
                f"the runtime directory {self.path} is too long for a unix socket; choose one of at most "
                f"{sockets.LONGEST_PATH - _LONGEST_NAME - 1} bytes"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            info = self.path.stat()
        except OSError as error:
            raise ConfigError(
                f"cannot make the runtime directory {self.path}: {error.strerror}; {sockets.fit()}"
            ) from error
        # Whoever may enter the directory could connect as a peer of their choice.
        if info.st_uid != os.geteuid() or info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                f"the runtime directory {self.path} is not private; "
                f"run: chmod 700 {self.path}, or choose another"
            )
        self._prepared = True

    def name(self, prefix: str) -> Path:
        """An unused path; ``prefix`` is one letter.

        When somebody has removed the directory, as logind does at logout, the path lies in a new one.

        Raises:
            ConfigError: there is no place for a new one.
        """
        if self._instead is not None:
            self.path = self._instead.path
        elif self._prepared and not self.path.is_dir():
            self._instead = sockets.Directory(_LONGEST_NAME + 1)
            logger.warning(
                "%s was removed while in use; new sockets lie in %s", self.path, self._instead.path
            )
            self.path = self._instead.path
        return self.path / f"{prefix}{os.getpid():x}.{next(self._numbers):x}"

    def caller(self) -> str:
        """A name for the calling end of a connection, by which the other end knows it.

        On Linux it is an abstract name (unix(7)), which needs no directory. Others cannot use it against us:
        the listening socket lies in a directory that only this user may enter.
        """
        if not sys.platform.startswith("linux"):
            return str(self.name("c"))
        return f"\0mlnet-{self._secret}-{next(self._numbers):x}"

    def close(self) -> None:
        """Remove what was made in place of a directory that was removed."""
        if self._instead is not None:
            self._instead.close()
            self._instead = None


async def connect_named(target: str, name: str) -> trio.SocketStream:
    """Connect to a unix socket from a socket bound to ``name``, which the other side sees as our address.

    A name in the file system is removed before this returns: the accepting side has read it by then.

    Args:
        target: path of the socket.
        name: from :meth:`RuntimeDir.caller`.

    Raises:
        OSError: nobody listens at ``target``.
    """
    # Bound without a checkpoint (trio's bind of a unix socket runs in a worker thread), so that no
    # cancellation leaves a name behind.
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        plain.bind(name)
    except BaseException:
        plain.close()
        raise
    sock = trio.socket.from_stdlib_socket(plain)
    try:
        await sock.connect(target)
    except BaseException:
        sock.close()
        raise
    finally:
        if not name.startswith("\0"):
            unlink(Path(name))
    return trio.SocketStream(sock)


def unlink(path: Path) -> None:
    """Remove a socket's name, if it is there."""
    path.unlink(missing_ok=True)


def listen(path: Path) -> trio.SocketListener:
    """Listen on a unix socket that only this user may connect to."""
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        plain.bind(str(path))
        path.chmod(0o600)
        plain.listen(BACKLOG)
    except BaseException:
        plain.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(plain))


def adopt(listener: socket.socket) -> trio.SocketListener:
    """Take over a socket that listens already."""
    listener.setblocking(False)
    return trio.SocketListener(trio.socket.from_stdlib_socket(listener))


async def serve(
    listener: trio.SocketListener, path: Path, open_stream: Callable[[], Awaitable[Stream | None]]
) -> None:
    """Turn each connection to ``listener`` into a stream, until cancelled; then the socket file is gone."""

    async def handle(sock: trio.SocketStream) -> None:
        try:
            stream = await open_stream()
            if stream is not None:
                await stream.splice(sock)
        except Exception as error:  # noqa: BLE001 - one connection's failure must not end the listener
            logger.debug("a connection to %s ended: %r", path, error)
        finally:
            with trio.CancelScope(shield=True):
                await sock.aclose()

    try:
        await trio.serve_listeners(handle, [listener])
    finally:
        unlink(path)


async def write_preamble(stream: Stream, preamble: bytes) -> None:
    """Send two bytes of length, big endian, and the preamble."""
    await stream.write(len(preamble).to_bytes(2, "big") + preamble)


async def read_preamble(stream: Stream) -> str:
    """What :func:`write_preamble` wrote.

    Raises:
        ValueError: too long or not UTF-8.
        MuxedStreamError: the stream ended.
        trio.TooSlowError: it did not come in time.
    """
    with trio.fail_after(PREAMBLE_SECONDS):
        size = int.from_bytes(await read_exactly(stream, 2), "big")
        if size > MAX_PREAMBLE_BYTES:
            raise ValueError("the preamble is too long")
        return (await read_exactly(stream, size)).decode()


async def read_exactly(stream: Stream, size: int) -> bytes:
    """The next ``size`` bytes.

    Raises:
        MuxedStreamError: the stream ended before them.
    """
    data = b""
    while len(data) < size:
        data += await stream.read(size - len(data))
    return data

"""Which node a client talks to, and the channel to it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import grpc

from mlnet.driver.directories import default_data_dir
from mlnet.errors import ConfigError
from mlnet.net.sending.grpc_channel import CHANNEL_OPTIONS, unix_target
from mlnet.util import hosts, sockets
from mlnet.util.files import why

NODE = "MLNET_NODE"
"""Environment variable that names the node: the path of its socket or data directory, or HOST:PORT."""
TOKEN = "MLNET_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable with the token for an address."""
SOCKET = "api.sock"
"""In the data directory of a node."""


@dataclass(frozen=True)
class Target:
    """A node.

    Attributes:
        socket: its unix socket; None for an address.
        address: ``HOST:PORT``; empty for a socket.
        token: what its owner gave; empty for none.
        ca: file with the certificates to trust, PEM; None for those of the system.
    """

    socket: Path | None = None
    address: str = ""
    token: str = ""
    ca: Path | None = None

    def __str__(self) -> str:
        return self.address or str(self.socket)

    @property
    def is_default(self) -> bool:
        """Whether it is the node that runs here by default, and nobody has chosen another one."""
        return self.socket is not None and self.socket == default_socket()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection is TLS: to another machine always, on this one if ``ca`` is given."""
        if not self.address:
            return False
        host, _ = hosts.split(self.address, "the node's address")
        return self.ca is not None or not (host == "localhost" or hosts.is_loopback(host))


def default_socket() -> Path:
    """The socket of the node that was started without ``--data-dir``.

    Raises:
        ConfigError: this user has no home directory.
    """
    return default_data_dir("node") / SOCKET


def find(
    address: str | None = None,
    *,
    socket: str | os.PathLike[str] | None = None,
    token: str | None = None,
    ca: str | os.PathLike[str] | None = None,
) -> Target:
    """The node that a user means.

    Args:
        address: ``HOST:PORT``, or the path of a socket or of a node's data directory; None for
            ``socket``, else for MLNET_NODE, else for the node that runs here by default.
        socket: the path of a node's unix socket, or of its data directory.
        token: for ``HOST:PORT``; None for MLNET_TOKEN.
        ca: file with the certificates to trust, PEM.

    Raises:
        ConfigError: the address is none, or two nodes are named.
    """
    if address is not None and socket is not None:
        raise ConfigError(f"two nodes are named, {address} and {os.fspath(socket)}; name one of them")
    named = os.fspath(socket) if socket is not None else address or os.environ.get(NODE, "")
    token = os.environ.get(TOKEN, "") if token is None else token
    if socket is not None or not named or _is_path(named):
        place = Path(named.removeprefix("unix:")) if named else default_socket()
        return Target(socket=(place / SOCKET if _is_directory(place) else place).absolute())
    hosts.split(named, "the node's address")
    return Target(address=named, token=token, ca=Path(ca) if ca is not None else None)


def _is_path(named: str) -> bool:
    if "/" in named or named.startswith("unix:") or named.endswith(".sock"):
        return True
    return ":" not in named and _is_directory(Path(named))


def _is_directory(place: Path) -> bool:
    """Whether a data directory is meant; not where nobody may look, as the call will say."""
    with contextlib.suppress(OSError):
        return place.is_dir()
    return False


class NodeChannel:
    """The HTTP/2 connection to a node; made on the event loop that uses it.

    Args:
        target: the node.

    Raises:
        ConfigError: the certificates cannot be read.
    """

    def __init__(self, target: Target) -> None:
        self._directory: int | None = None
        # The authority would be compared with the certificate.
        options = [(name, value) for name, value in CHANNEL_OPTIONS if name != "grpc.default_authority"]
        if target.socket is not None:
            options.append(("grpc.default_authority", "mlnet"))
            place = unix_target(self._short(target.socket))
            self.channel = grpc.aio.insecure_channel(place, options=options)
        elif target.is_encrypted:
            roots = _read(target.ca) if target.ca is not None else None
            credentials = grpc.ssl_channel_credentials(root_certificates=roots)
            self.channel = grpc.aio.secure_channel(target.address, credentials, options=options)
        else:
            self.channel = grpc.aio.insecure_channel(target.address, options=options)

    def _short(self, socket: Path) -> str:
        """A name of the socket that fits its address, also when the node has made it anew."""
        if len(os.fsencode(socket)) <= sockets.LONGEST_PATH or not hasattr(os, "O_PATH"):
            return str(socket)
        try:
            self._directory = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return str(socket)  # nobody is there; the call will say so
        return f"/proc/self/fd/{self._directory}/{socket.name}"

    async def ready(self) -> bool:
        """Whether the connection stands: tried once if it does not."""
        state = self.channel.get_state(try_to_connect=True)
        while state not in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.SHUTDOWN):
            await self.channel.wait_for_state_change(state)
            before, state = state, self.channel.get_state(try_to_connect=True)
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE != before:
                return False
        return state is grpc.ChannelConnectivity.READY

    async def close(self) -> None:
        """End the calls and the connection."""
        await self.channel.close(None)
        if self._directory is not None:
            with contextlib.suppress(OSError):
                os.close(self._directory)
            self._directory = None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the certificates in {path} cannot be read: {why(error)}") from error

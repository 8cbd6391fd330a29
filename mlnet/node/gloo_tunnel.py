"""The node's half of training through the tunnel: see :mod:`mlnet.training.gloo_tunnel`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlnet.errors import MlnetError, TrainingError
from mlnet.net.types import GLOO_PROTOCOL
from mlnet.training.gloo_tunnel import MESSAGE_BYTES, address
from mlnet.util import files

if TYPE_CHECKING:
    from mlnet.net.network import Network

logger = logging.getLogger(__name__)


class GlooTunnelServer:
    """Opens the tunnels that the trainer asks for, and admits the other members to the trainer's port.

    Args:
        network: carries the streams.
        control: path of the unix socket at which the trainer asks.
        task: id of the task.
        attempt: of the cluster.
        nodes: peer ids by rank.
    """

    def __init__(
        self, network: Network, control: Path, task: str, attempt: int, nodes: Sequence[str]
    ) -> None:
        self._network, self._nodes = network, nodes
        self._task, self._attempt = task, attempt
        self.control = control
        self._port: int | None = None
        self._sockets: list[socket.socket] = []
        self._ways: list[Path] = []
        self._opening: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Listen for the trainer.

        Raises:
            TrainingError: the directory for sockets was removed, or is full.
        """
        # SEQPACKET keeps each message and its descriptor together; a stream could split them.
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._sockets.append(server)
        try:
            server.bind(str(self.control))
            self.control.chmod(0o600)
            server.listen(1)
        except OSError as error:
            raise TrainingError(
                f"the socket for the trainer cannot be made at {self.control}: {files.why(error)}"
            ) from error
        asyncio.get_running_loop().add_reader(server, self._accept, server)

    async def stop(self) -> None:
        """Close all tunnels."""
        for sock in self._sockets:
            self._close(sock)
        self._sockets.clear()
        self.control.unlink(missing_ok=True)
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for way in self._ways:
            await self._network.unforward(way)
        self._ways.clear()

    def target(self, peer: str, attempt: str) -> tuple[str, int] | None:
        """The address to which a member's stream is spliced; None when this rank does not listen for
        tunnels."""
        if self._port is None or attempt != str(self._attempt) or peer not in self._nodes:
            return None
        return address(self._task, self._attempt, self._nodes.index(self._network.peer_id)), self._port

    @staticmethod
    def _close(sock: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            trainer, _ = server.accept()
            trainer.setblocking(False)
            self._sockets.append(trainer)
            asyncio.get_running_loop().add_reader(trainer, self._read, trainer)

    def _read(self, trainer: socket.socket) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(trainer, MESSAGE_BYTES, 1)
        except BlockingIOError:
            return
        except ConnectionError:
            data, descriptors = b"", []
        listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        match data.decode(errors="replace").split():
            case ["listening", port]:
                self._port = int(port)
                self._answer(trainer, "ok")
            case ["reach", rank, _] if listeners:
                task = asyncio.ensure_future(self._open(trainer, int(rank), listeners.pop()))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            # An empty packet is the end of the connection.
            case []:
                self._sockets.remove(trainer)
                self._close(trainer)
        # Descriptors that came with any other message would leak.
        for listener in listeners:
            listener.close()

    async def _open(self, trainer: socket.socket, rank: int, listener: socket.socket) -> None:
        preamble = f"{self._task} {self._attempt}"
        try:
            self._ways.append(
                await self._network.forward(self._nodes[rank], GLOO_PROTOCOL, preamble, listener=listener)
            )
        except (MlnetError, IndexError) as error:
            listener.close()
            logger.warning("no tunnel to the trainer of rank %d: %s", rank, error)
            self._answer(trainer, "there is no tunnel to that member")
        else:
            self._answer(trainer, "ok")

    @staticmethod
    def _answer(trainer: socket.socket, text: str) -> None:
        # The trainer may be gone by now.
        with contextlib.suppress(OSError):
            trainer.send(text.encode())

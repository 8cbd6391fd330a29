"""Gloo through the node's tunnel, without rewriting addresses.

Gloo publishes addresses in a binary form and connects to them itself, so a proxy would have to rewrite them.
Instead a rank that is reached through the tunnel listens on a loopback address of its own, which follows from
task, attempt and rank. A rank that is about to connect to it first listens on the same address and port on
its own machine, and hands that socket to its node, which turns each connection into a stream to the other
rank's node. The port is read from what the ranks publish.

Ranks that listen on a machine's real address and ranks that listen on such a loopback address may train
together. Two nodes on one machine share its loopback addresses: what one of them has opened serves the other
as well.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlnet.errors import TrainingError
from mlnet.util.hosts import is_ipv6

MAX_RANKS = 250
"""Ranks of one tunnelled task: the last byte of an address is the rank + 1."""
MESSAGE_BYTES = 64
"""Bytes of a request or an answer; both are a word and at most two numbers."""
ANSWER_SECONDS = 10.0
"""Seconds for the node's answer. It opens a socket and answers at once, without waiting for the other member.
"""
# The first field of a struct sockaddr_in, little-endian as on x86 and ARM.
_FAMILY = int(socket.AF_INET).to_bytes(2, "little")


def address(task: str, attempt: int, rank: int) -> str:
    """The loopback address of a rank, in a network of 254 addresses for each task and attempt.

    Raises:
        TrainingError: there are more ranks than that.
    """
    if rank >= MAX_RANKS:
        raise TrainingError(
            f"at most {MAX_RANKS} members can train through the tunnel; lower cluster.max-nodes"
        )
    one, two = hashlib.sha256(f"{task} {attempt}".encode()).digest()[:2]
    return f"127.{64 + one % 128}.{two}.{rank + 1}"


def listening(task: str, attempt: int, rank: int, hosts: Sequence[str]) -> str:
    """The address on which gloo listens for a rank.

    Gloo needs all addresses in one family. So all are IPv6 if every rank is reached by IPv6; otherwise all
    are IPv4, and a rank without an IPv4 address is reached through the tunnel.

    Args:
        task: id of the task.
        attempt: of the cluster.
        rank: whose address.
        hosts: by rank, the address at which others reach it; empty for a rank that is reached through the
            tunnel.

    Raises:
        TrainingError: there are too many ranks for the tunnel.
    """
    direct = hosts[rank] and (not is_ipv6(hosts[rank]) or all(map(is_ipv6, hosts)))
    return hosts[rank] if direct else address(task, attempt, rank)


class GlooTunnelClient:
    """The trainer's half: asks the node for tunnels.

    Args:
        control: the node's unix socket.
        task: id of the task.
        attempt: of the cluster.
        rank: of this process.
        world: number of ranks.

    Raises:
        TrainingError: the node does not listen there.
    """

    def __init__(self, control: Path, task: str, attempt: int, rank: int, world: int) -> None:
        self._rank = rank
        self._ranks = {
            socket.inet_aton(address(task, attempt, number)): number
            for number in range(min(world, MAX_RANKS))
        }
        self._told: set[tuple[int, int]] = set()
        self._node = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._node.settimeout(ANSWER_SECONDS)
        try:
            self._node.connect(str(control))
        except OSError as error:
            self._node.close()
            raise TrainingError(f"the node does not answer its trainer: {error}") from error

    def publish(self, value: bytes) -> None:
        """This rank is about to publish ``value``: ask the node to admit peers to its port.

        Raises:
            TrainingError: the node did not answer.
        """
        for rank, port in self._found(value):
            if rank == self._rank and (rank, port) not in self._told:
                self._tell(f"listening {port}")
                self._told.add((rank, port))

    def read(self, values: Iterable[bytes]) -> None:
        """This rank is about to connect to what others have published: open the tunnels there.

        Raises:
            TrainingError: the node did not answer, or an address cannot be listened on.
        """
        for value in values:
            for rank, port in self._found(value):
                if rank != self._rank and (rank, port) not in self._told:
                    self._open(rank, port)
                    self._told.add((rank, port))

    def _open(self, rank: int, port: int) -> None:
        host = next(socket.inet_ntoa(packed) for packed, number in self._ranks.items() if number == rank)
        with socket.socket() as listener:
            try:
                listener.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return  # that rank is on this machine, or a node on it has opened the way
                raise TrainingError(f"cannot listen on {host}:{port}: {error.strerror}") from error
            listener.listen(MAX_RANKS)
            self._tell(f"reach {rank} {port}", listener)

    def _found(self, value: bytes) -> Iterable[tuple[int, int]]:
        """The ranks' addresses in what gloo publishes, which contains a struct sockaddr_in. It is searched
        for, since the layout around it differs between versions."""
        at = value.find(_FAMILY)
        while at >= 0:
            rank = self._ranks.get(value[at + 4 : at + 8])
            if rank is not None:
                yield rank, int.from_bytes(value[at + 2 : at + 4], "big")
            at = value.find(_FAMILY, at + 1)

    def _tell(self, message: str, *sockets: socket.socket) -> None:
        try:
            socket.send_fds(self._node, [message.encode()], [one.fileno() for one in sockets])
            answer = self._node.recv(MESSAGE_BYTES)
        except OSError as error:
            raise TrainingError(f"this node did not answer its trainer: {error}") from error
        if answer != b"ok":
            reason = answer.decode(errors="replace") or "the node has ended"
            raise TrainingError(f"this node cannot reach another member for its trainer: {reason}")

    def close(self) -> None:
        """Close the connection to the node."""
        with contextlib.suppress(OSError):
            self._node.close()

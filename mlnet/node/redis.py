"""A node's Redis server for one task: who may use it, and its relation to the other members' servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from random import SystemRandom

from mlnet import store
from mlnet.driver.messenger import Wire
from mlnet.driver.options import NodeOptions
from mlnet.errors import StoreError, TransportError
from mlnet.net import addresses
from mlnet.net.types import REDIS_PROTOCOL, DialBack
from mlnet.protocol.commands import MeasurePings, Replicate
from mlnet.protocol.events import PingsMeasured, Replicated
from mlnet.util.hosts import is_ipv6, is_loopback

DIALLERS = 4
"""Peers that are asked to dial the port back. Several, because one may be on this machine or lie; each may be
asked Limits.dial_backs_per_minute times only."""
MAX_SERVER_BYTES = 256 << 20
"""The most data that a task's server may hold, whatever memory the node offers; the task's keys and progress
are far less."""


class TaskRedis:
    """The server, and the tunnels to the servers of other members.

    Args:
        task: its id.
        client: peer id.
        wire: the node's messenger.
        options: the operator's.
        runtime: directory for sockets.
    """

    def __init__(self, task: str, client: str, wire: Wire, options: NodeOptions, runtime: Path) -> None:
        self._task, self._client = task, client
        self._wire, self._options, self._runtime = wire, options, runtime
        self._server: store.RedisServer | None = None
        self._members: frozenset[str] = frozenset()
        self._slave = ""
        self._forwards: list[Path] = []

    async def start(self) -> None:
        """Start the server.

        Raises:
            MlnetError: it does not start.
        """
        options = self._options
        self._server = await store.RedisServer.start(
            store.find_binary(options.redis),
            self._runtime,
            task=self._task,
            ports=options.redis_ports,
            max_memory=min(options.terms.resources.memory << 20, MAX_SERVER_BYTES),
        )
        for purpose in ("store", "replica", "progress"):
            await self._server.gate(purpose)

    async def died(self) -> None:
        """Wait until the server's process ends.

        Raises:
            StoreError: it has ended; the text says how.
        """
        if self._server is not None:
            raise StoreError(f"its {await self._server.died()}")

    async def dialled_back(self) -> tuple[DialBack, int]:
        """Ask peers to dial the server's port; return the best answer and the port. Peers on other machines
        are asked first.

        Raises:
            StoreError: there is no server.
        """
        if self._server is None:
            raise StoreError("this node has no Redis server")
        port = self._server.port
        network, own = self._wire.network, addresses.own_ips()
        peers = network.connected_peers()
        # At random: always the same peers would use up their allowance, and could decide alone.
        SystemRandom().shuffle(peers)
        # A peer on this machine reaches the port through the loopback or past the firewall: its answer proves
        # little.
        peers.sort(key=lambda peer: _is_here(network.remote_ips(peer), own))
        timeout = self._options.deadlines.pings / 1000
        asked = peers[:DIALLERS]
        answers = await asyncio.gather(*(network.dial_back(peer, port, timeout) for peer in asked))
        if not answers:
            return DialBack(False, "", "no peer is connected that could test whether the port is open"), port
        found = [
            (answer, _is_here(network.remote_ips(peer), own))
            for peer, answer in zip(asked, answers, strict=True)
        ]
        return best(found), port

    async def stop(self) -> None:
        """Close the tunnels, and end the server."""
        forwards, self._forwards = self._forwards, []
        server, self._server = self._server, None
        async with contextlib.AsyncExitStack() as ends:  # all of them, whichever fails
            for path in forwards:
                ends.push_async_callback(self._wire.network.unforward, path)
            if server is not None:
                ends.push_async_callback(server.stop)

    # ---------------------------------------------------------------------------------------- who may use it

    def serve(self, members: frozenset[str], slave: str) -> None:
        """Replace the members that are admitted to the store, and the one that is admitted as the replica."""
        self._members, self._slave = members, slave

    def narrow(self, members: frozenset[str]) -> None:
        """Restrict the store to these of the admitted members."""
        self._members &= members

    def admit(self, peer: str, purpose: str) -> Path | None:
        """The socket of the server for a purpose; None when that peer may not use it."""
        may = {
            "store": peer in self._members,
            "replica": peer == self._slave,
            "progress": peer == self._client or peer in self._members,
        }
        if self._server is None or not may.get(purpose, False):
            return None
        return self._server.gate_way(purpose)

    # ------------------------------------------------------------------------------- the servers of others

    async def measure_pings(self, command: MeasurePings) -> PingsMeasured:
        """Ping the servers of other members, one after the other: pings at once would delay each other."""
        # Half of the phase in seconds, for all members together: the answers still have to travel.
        timeout = self._options.deadlines.pings / 2000
        measured: dict[str, tuple[int, ...]] = {}
        for peer, (host, port) in command.targets.items():
            measured[peer] = await self._ping(
                peer, host, port, command.samples, timeout / len(command.targets)
            )
        return PingsMeasured(command.attempt, measured)

    async def _ping(self, peer: str, host: str, port: int, samples: int, timeout: float) -> tuple[int, ...]:
        """Ping a member at an address that it is connected from, never at one that it merely claims: a member
        could have others ping a third party."""
        network = self._wire.network
        if not network.remote_ips(peer):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout / 2):
                    await self._connect(peer)
        seen = network.remote_ips(peer)
        target = host if host in seen else next(iter(sorted(seen)), None)
        if target is None or not port:
            return ()
        try:
            return tuple(await store.ping(target, port, samples=samples, timeout=timeout))
        except StoreError:
            return ()

    async def _connect(self, peer: str) -> None:
        """Dial a member that this node was not connected with until now."""
        for address in self._wire.network.known_peers().get(peer, []):
            with contextlib.suppress(TransportError):
                await self._wire.network.connect(address)
                return

    async def replicate(self, command: Replicate) -> Replicated:
        """Become the replica of another member's server."""
        reason = ""
        try:
            if self._server is None:
                raise StoreError("this node has no Redis server")
            path = await self._forward(command.master, "replica")
            # Three quarters of the phase, so that a failure is told within it.
            await self._server.replicate_from(path, timeout=self._options.deadlines.ready * 0.75 / 1000)
        except (StoreError, TransportError) as error:
            reason = str(error)
        return Replicated(command.attempt, reason)

    async def promote(self) -> None:
        """Leave the master of an earlier attempt."""
        if self._server is not None:
            with contextlib.suppress(StoreError):
                await self._server.promote()

    async def endpoint(self, peer: str) -> Path:
        """A socket at which the trainer reaches a server as a member.

        Raises:
            StoreError: it would be this node's server, which does not run.
            TransportError: the network has stopped.
        """
        if peer == self._wire.network.peer_id:
            if self._server is None:
                raise StoreError("this node has no Redis server")
            return self._server.gate_way("store")
        return await self._forward(peer, "store")

    async def _forward(self, peer: str, purpose: str) -> Path:
        path = await self._wire.network.forward(peer, REDIS_PROTOCOL, f"{self._task} {purpose}")
        self._forwards.append(path)
        return path


def best(answers: Sequence[tuple[DialBack, bool]]) -> DialBack:
    """The answer that says most about where others reach this node: an open port, seen from another machine,
    at the address that most of them saw, IPv4 before IPv6.

    Args:
        answers: at least one, each with whether it comes from this machine.
    """
    votes = Counter(answer.host for answer, here in answers if answer.open and not here)

    def worth(found: tuple[DialBack, bool]) -> tuple[bool, bool, bool, int, bool]:
        answer, here = found
        host = answer.host
        return answer.open, not is_loopback(host), not here, votes[host], not is_ipv6(host)

    return max(answers, key=worth)[0]


def _is_here(ips: Iterable[str], own: Container[str]) -> bool:
    """Whether a peer with these remote addresses is on this machine."""
    return all(is_loopback(ip) or ip in own for ip in ips)

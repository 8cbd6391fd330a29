"""``mlnet-node start``: a node in the foreground, until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from mlnet import node
from mlnet.errors import TransportError
from mlnet.net.metrics import Metrics
from mlnet.options import NodeOptions
from mlnet.protocol.commands import End, Report
from mlnet.protocol.messages import Message
from mlnet.terminal import console, traffic
from mlnet.terminal.nodelog import NodeLog

JOIN = f"{console.NAME} start --peer "
"""How the line begins with which another machine joins; the address follows."""


class Operation:
    """A node and its operator at the terminal.

    Args:
        options: of the operator.
        show_messages: write every message to standard error.
        metrics: ``HOST:PORT`` at which Prometheus finds metrics; None for nowhere.
    """

    def __init__(self, options: NodeOptions, *, show_messages: bool, metrics: str | None = None) -> None:
        self._options = options
        self._metrics = metrics
        self._traffic = traffic.observer(_write_error) if show_messages else traffic.ignore
        self._server: node.NodeServer | None = None
        self._log: NodeLog | None = None
        self._leave = asyncio.Event()
        self._abandon: Callable[[], object] = self._leave.set

    async def run(self) -> int:
        """Serve until a signal comes; the exit code.

        Raises:
            ConfigError: an option is wrong, the data directory or an address cannot be used.
        """
        me = asyncio.current_task()
        assert me is not None  # noqa: S101 - this is a coroutine
        self._abandon = me.cancel
        try:
            with console.signals(self._on_signal):
                async with (
                    self._measured(),
                    node.running(
                        self._options, self._observe, self._on_message, self._notice
                    ) as self._server,
                ):
                    self._log = NodeLog(self._server.peer_id, _write_error)
                    _write(welcome(self._server.peer_id, self._server.wire.addresses()))
                    await self._leave.wait()
        except asyncio.CancelledError:
            if not self._leave.is_set():
                raise
            return console.INTERRUPTED
        return 0

    def _running(self) -> AbstractAsyncContextManager[node.NodeServer]:
        return node.running(self._options, self._observe, self._on_message, self._notice)

    @asynccontextmanager
    async def _measured(self) -> AsyncIterator[None]:
        """Serve metrics if the operator wants them."""
        if self._metrics is None:
            yield
            return
        from mlnet.terminal.metrics import MetricsServer

        metrics = MetricsServer(self._metrics, self._measure)
        await metrics.start()
        try:
            _write(f"metrics at {metrics.url}\n")
            yield
        finally:
            await metrics.stop()

    async def _measure(self) -> Metrics:
        if self._server is None:
            raise TransportError("the node does not run yet")
        return await self._server.wire.network.metrics()

    def _on_signal(self, _: signal.Signals) -> None:
        """Withdraw from tasks and end; a second signal does not wait for it."""
        if self._leave.is_set():
            self._abandon()
            return
        self._leave.set()
        console.say("leaving; Ctrl-C again does not wait for the farewell")

    def _observe(self, task: str, report: Report | End) -> None:
        if self._log is not None:
            self._log.report(task, report)

    def _notice(self, text: str) -> None:
        if self._log is not None:
            self._log.notice(text)
        else:
            _write_error(text)

    def _on_message(self, incoming: bool, peer: str, message: Message) -> None:
        if self._log is not None:
            self._log.message(incoming, peer, message)
        self._traffic(incoming, peer, message)


def welcome(peer: str, addresses: tuple[str, ...]) -> str:
    """What a node says once it listens: who it is, and how others reach it."""
    best = addresses[0] if addresses else ""
    others = ", ".join(address.partition("/p2p/")[0] for address in addresses[1:])
    lines = [
        f"node {peer}",
        "another machine joins with",
        f"  {JOIN}{best}",
        "a model is trained with",
        f"  {console.NAME} submit --peer {best}",
    ]
    if others:
        lines.append(f"also listens at {others}")
    if not _reachable(best):
        lines.append("(from this machine only: there is no other address)")
    return "\n".join(lines) + "\n"


def _reachable(address: str) -> bool:
    return bool(address) and not address.startswith(("/ip4/127.", "/ip6/::1/"))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _write_error(text: str) -> None:
    sys.stderr.write(text.rstrip("\n") + "\n")
    sys.stderr.flush()

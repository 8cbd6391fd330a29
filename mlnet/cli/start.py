"""``mlnet-node start``: a node in the foreground, until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from mlnet.cli import console, dashboard, traffic
from mlnet.cli.node_log import NodeLog
from mlnet.driver.options import NodeOptions
from mlnet.errors import TransportError
from mlnet.net.addresses import host_of
from mlnet.net.metric import Metrics
from mlnet.net.transport.reach import REACHED, SEEN, UNKNOWN
from mlnet.node import server as node
from mlnet.protocol.commands import End, Report
from mlnet.protocol.wire.messages import Message
from mlnet.sdk.target import SOCKET, Target
from mlnet.service.options import ApiOptions
from mlnet.service.serving import serving
from mlnet.service.tasks.asking import Rules
from mlnet.util.hosts import is_loopback

JOIN = f"{console.NAME} start --peer "
"""How the line begins with which another machine joins; the address follows."""
VIEW_SECONDS = 1.5
"""How long a node that has several addresses waits for its peers to show which one they can use."""


class Operation:
    """A node and its operator at the terminal.

    Args:
        options: of the operator.
        show_messages: write every message to standard error.
        metrics: ``HOST:PORT`` at which Prometheus finds metrics; None for nowhere.
        api: where its own programs reach it, beside its unix socket.
        rules: what those may name on this machine.
        dashboard: ``HOST:PORT`` at which a browser finds its page; None for nowhere.
    """

    def __init__(
        self,
        options: NodeOptions,
        *,
        show_messages: bool,
        metrics: str | None = None,
        api: ApiOptions | None = None,
        rules: Rules | None = None,
        dashboard: str | None = None,
    ) -> None:
        self._options = options
        self._api = api or ApiOptions()
        self._rules = rules
        self._metrics, self._dashboard = metrics, dashboard
        self._traffic = traffic.observer(_write_error) if show_messages else traffic.ignore
        self._server: node.NodeServer | None = None
        self._log: NodeLog | None = None
        self._joined_by = ""
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
                    serving(self._server, self._api, self._rules) as api,
                    self._shown(),
                ):
                    self._log = NodeLog(self._server.peer_id, _write_error)
                    _write(reached_by(api.address, api.token_file))
                    await self._welcome(self._server)
                    news = asyncio.ensure_future(self._tell_reach(self._server))
                    await self._leave.wait()
                    news.cancel()
        except asyncio.CancelledError:
            if not self._leave.is_set():
                raise
            return console.INTERRUPTED
        return 0

    async def _welcome(self, server: node.NodeServer) -> None:
        """Say by which address others join: at once where there is nothing to choose, else as soon as a peer
        has shown which one it can use."""
        network, addresses = server.wire.network, server.wire.addresses()
        is_guess = len(_for_others(addresses)) > 1 and network.standing(addresses[0]) == UNKNOWN
        if is_guess and self._options.wire.peers:
            with suppress(TimeoutError):
                async with asyncio.timeout(VIEW_SECONDS):
                    await network.reach_changed()
            addresses = server.wire.addresses()
        self._joined_by = addresses[0] if addresses else ""
        standing = network.standing(self._joined_by) if addresses else UNKNOWN
        _write(welcome(server.peer_id, addresses, standing))

    async def _tell_reach(self, server: node.NodeServer) -> None:
        """Say it again when peers show another address, and when one has reached this node."""
        network = server.wire.network
        while not self._joined_by or network.standing(self._joined_by) != REACHED:
            await network.reach_changed()
            best = server.wire.addresses()[0]
            if best != self._joined_by or network.standing(best) == REACHED:
                _write_error(reached(best, network.standing(best)))
            self._joined_by = best

    @asynccontextmanager
    async def _measured(self) -> AsyncIterator[None]:
        """Serve metrics if the operator wants them."""
        if self._metrics is None:
            yield
            return
        from mlnet.cli.metrics import MetricsServer

        metrics = MetricsServer(self._metrics, self._measure)
        await metrics.start()
        try:
            _write(f"metrics at {metrics.url}\n")
            yield
        finally:
            await metrics.stop()

    @asynccontextmanager
    async def _shown(self) -> AsyncIterator[None]:
        """Serve the page if the operator wants it. It calls the API as other programs do."""
        if self._dashboard is None:
            yield
            return
        from mlnet.dashboard.serving import serving as page

        target = Target(socket=self._options.data_dir / SOCKET)
        async with page(target, self._dashboard, "--dashboard") as url:
            dashboard.tell(url)
            yield

    async def _measure(self) -> Metrics:
        if self._server is None:
            raise TransportError("the node is not running yet")
        return await self._server.wire.network.metrics()

    def _on_signal(self, _: signal.Signals) -> None:
        """Withdraw from tasks and end; a second signal does not wait for it."""
        if self._leave.is_set():
            self._abandon()
            return
        self._leave.set()
        console.say("leaving the network; press Ctrl-C again to end at once")

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


def reached_by(address: str, token_file: Path | None) -> str:
    """Where the node's own programs find it, beside the unix socket, which they know.

    Args:
        address: ``HOST:PORT`` of its API; empty for none.
        token_file: with the token that it asks for; None for none.
    """
    if not address:
        return ""
    token = f", with the token in {token_file}" if token_file is not None else ", without a token"
    return f"API at {address}{token}\n"


def welcome(peer: str, addresses: tuple[str, ...], standing: int) -> str:
    """What a node says once it listens: who it is, and how others reach it.

    Args:
        peer: its id.
        addresses: its own, the best one first.
        standing: what others have shown of that one, see :mod:`mlnet.net.transport.reach`.
    """
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
    if not _for_others(addresses):
        lines.append("(from this machine only: there is no other address)")
    elif standing == UNKNOWN:
        lines.append("(the address is a guess: no peer has reached this node yet)")
    elif standing == SEEN:
        lines.append("(peers see this node at that address; none has dialled it yet)")
    return "\n".join(lines) + "\n"


def reached(address: str, standing: int) -> str:
    """What a node says when peers have shown by which address others join."""
    if standing == REACHED:
        return f"a peer has reached this node; another machine joins with {JOIN}{address}"
    return f"peers see this node at another address; another machine joins with {JOIN}{address}"


def _for_others(addresses: Sequence[str]) -> list[str]:
    return [address for address in addresses if not is_loopback(host_of(address))]


def _write(text: str) -> None:
    """Write to standard output; a node runs on where that cannot be."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        console.lost_output(error)


def _write_error(text: str) -> None:
    sys.stderr.write(text.rstrip("\n") + "\n")
    sys.stderr.flush()

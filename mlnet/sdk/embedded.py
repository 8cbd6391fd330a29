"""The API without a node: this process is a client on the network, and serves it to itself at a socket.

So there is one way for all that a client does, whoever carries the task.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType

from mlnet.client import connecting
from mlnet.client.task_client import TaskClient
from mlnet.driver.data_dir import opened
from mlnet.driver.directories import default_data_dir
from mlnet.driver.messenger import WireOptions
from mlnet.driver.options import ClientOptions
from mlnet.protocol.deadlines import Deadlines
from mlnet.service.options import ApiOptions
from mlnet.service.server import ApiServers
from mlnet.service.tasks.asking import Rules
from mlnet.service.tasks.registry import Registry
from mlnet.service.tasks.servicer import TasksService

ANYWHERE = (Path("/"),)
"""The caller is this process: what it may read and write is the system's to say."""


class Embedded:
    """A context that gives the path of the socket.

    Args:
        peers: addresses of nodes.
        data_dir: for identity, journals and tasks; None for the default.
        deadline_factor: by which all deadlines of the protocol are multiplied.
        listen: multiaddrs to listen on; none for the default.
        notice: takes lines of text for people.
    """

    def __init__(
        self,
        peers: Sequence[str],
        data_dir: str | os.PathLike[str] | None,
        deadline_factor: float,
        listen: Sequence[str],
        notice: Callable[[str], object],
    ) -> None:
        wire = WireOptions(peers=tuple(peers))
        if listen:
            wire = WireOptions(listen=tuple(listen), peers=tuple(peers))
        directory = Path(data_dir) if data_dir is not None else default_data_dir("embedded")
        self._options = ClientOptions(directory, wire, Deadlines().scaled(deadline_factor))
        self._say = notice
        self._registry: Registry | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Path:
        """Join the network, and take up what a former process has left.

        Raises:
            ConfigError: the directory, or an address to listen on, cannot be used.
            PeerUnreachable: none of the peers answered.
        """
        async with AsyncExitStack() as stack:
            state = stack.enter_context(opened(self._options.data_dir))
            models = state.directory / "models"
            client = connecting.on_its_own(self._options, state, _unseen, self._notice, home=models)
            await client.wire.start()
            stack.push_async_callback(_leave, client)
            await client.meet()
            client.expect()
            self._registry = registry = Registry(client, state)
            service = TasksService(registry, Rules(ANYWHERE, ANYWHERE, private_links=True))
            stack.push_async_callback(registry.stop)
            stack.callback(service.close)
            await registry.start()
            servers = ApiServers(state.directory, state.runtime, ApiOptions(), (service,))
            await servers.start()
            stack.push_async_callback(servers.stop)
            self._stack = stack.pop_all()
        return servers.socket

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _notice(self, text: str) -> None:
        self._say(text)
        if self._registry is not None:
            self._registry.notice(text)


async def _leave(client: TaskClient) -> None:
    await client.close()
    await client.wire.stop()


def _unseen(incoming: bool, peer: str, message: object) -> None:
    """Nobody looks at the messages."""

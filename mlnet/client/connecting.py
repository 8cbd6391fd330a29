"""A client on a wire of its own: how programs join the network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from mlnet.client.meeting import Meeting, Notice
from mlnet.client.stored import find_unfinished, read_stored
from mlnet.client.task_client import TaskClient
from mlnet.driver.data_dir import State, opened
from mlnet.driver.messenger import Wire, WireHandlers
from mlnet.driver.options import ClientOptions
from mlnet.protocol.wire.messages import Message

Traffic = Callable[[bool, str, Message], None]


@asynccontextmanager
async def connected(
    options: ClientOptions,
    traffic: Traffic = lambda incoming, peer, message: None,
    notice: Notice = lambda text: None,
    *,
    resume: str | None = None,
    waits: bool = True,
) -> AsyncIterator[TaskClient]:
    """Be a client on the network for as long as the context lasts.

    Args:
        options: of the user.
        traffic: takes (incoming, peer, message) for people.
        notice: takes a line of text for people.
        resume: beginning of the id of a task that is to be taken up: its peers are dialled where none are
            given, and not waited for, since a model that is here already can be delivered without them.
        waits: for the first peer at once, and not only in :meth:`TaskClient.submit`.

    Raises:
        ConfigError: the data directory, or an address to listen on, cannot be used.
        PeerUnreachable: none of the peers given answered.
    """
    with opened(options.data_dir) as state:
        if resume is not None and not options.wire.peers:
            stored = read_stored(state, find_unfinished(state, resume))
            wire = replace(options.wire, peers=stored.peers if stored is not None else ())
            options = replace(options, wire=wire)
        client = on_its_own(options, state, traffic, notice)
        try:
            await client.wire.start()
            if waits and resume is None:
                await client.meet()
            yield client
        finally:
            await client.close()
            await client.wire.stop()


def on_its_own(
    options: ClientOptions, state: State, traffic: Traffic, notice: Notice, *, home: Path = Path()
) -> TaskClient:
    """A client and the wire that nobody else uses, which is not started yet.

    Args:
        options: of the user.
        state: the client's directory.
        traffic: takes (incoming, peer, message) for people.
        notice: takes a line of text for people.
        home: where models go for which no directory is named.
    """
    meeting = Meeting(options.wire.peers, notice)

    def open_tasks() -> Sequence[Message]:
        return client.open_tasks()

    def find_blob(peer: str, digest: str) -> Path | None:
        return client.find_blob(peer, digest)

    handlers = WireHandlers(
        lambda message, _: client.receive(message),
        open_tasks,
        find_blob,
        lambda peer, protocol, preamble: None,
        traffic,
        meeting.on_peer,
        notice,
        meeting.on_unreachable,
    )
    wire = Wire(state.identity, handlers, state.runtime / "n", options.wire)
    client = TaskClient(options, state, wire, meeting, notice, home=home)
    return client

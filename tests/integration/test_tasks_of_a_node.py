"""A user and the node that runs on his machine: the commands, the client, and Ctrl-C, over real nodes."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import termios
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from support.cluster import Mission, NodeProcess, mission

import mlnet
from mlnet.cli.console import INTERRUPTED
from mlnet.errors import NotFound
from mlnet.sdk.events import PhaseEntered, TaskEnded

pytestmark = pytest.mark.timeout(300)
HUGE = {"cpus": 65536}
"""More than a node has: nobody answers, and the task waits."""


class User:
    """Commands that ask one node.

    Args:
        net: the network.
        node: theirs.
    """

    def __init__(self, net: Mission, node: NodeProcess) -> None:
        self.net = net
        self.socket = node.data_dir / "api.sock"

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        process = await self.spawn(*arguments)
        async with asyncio.timeout(100):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def spawn(self, *arguments: str, terminal: int | None = None) -> asyncio.subprocess.Process:
        """Start a command: at a terminal, or without one."""
        return await asyncio.create_subprocess_exec(
            *self.net.command(*arguments),
            env=self.net.environment | {"MLNET_NODE": str(self.socket)},
            cwd=self.net.base,
            stdin=asyncio.subprocess.DEVNULL if terminal is None else terminal,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if terminal is None else terminal,
            start_new_session=True,
            preexec_fn=None if terminal is None else lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def client(self) -> mlnet.AsyncClient:
        return mlnet.AsyncClient(socket=self.socket, notice=lambda text: None)


async def test_a_task_from_submit_to_its_model_by_commands() -> None:
    async with mission(3) as net:
        user = User(net, net.nodes[0])
        file = str(net.definition(max_nodes=2))
        # The node may read no datasets: this one is uploaded.
        status, out, err = await user.run("submit", file, "--detach")
        assert status == 0, err
        task = out.strip()
        assert "is uploaded: the node does not read datasets there" in err

        watched, waited = await asyncio.gather(
            user.run("tasks", "watch", task[:6], "--json"), user.run("tasks", "wait", task[:6])
        )
        events = [json.loads(line) for line in watched[1].splitlines()]
        assert [event["revision"] for event in events] == list(range(1, len(events) + 1))
        assert (events[0]["event"], events[-1]["event"]) == ("phase", "ended")
        assert waited[0] == 0, waited
        assert waited[1].startswith(f"task {task[:12]} completed, held-out accuracy 0.")

        answers = await asyncio.gather(
            user.run("tasks", "--json"),
            user.run("tasks", "show", task[:6]),
            user.run("tasks", "download", task[:6], "--output", "model", "--json"),
            user.run("tasks", "transcript", task[:6], "--output", "transcript.jsonl"),
            user.run("tasks", "watch", task[:6]),
            user.run("status"),
            user.run("peers"),
            user.run("ping", net.nodes[1].peer_id[-6:], "--count", "2"),
        )
        assert [answer[0] for answer in answers] == [0] * len(answers), answers
        listed, shown, downloaded, _, displayed, described, peers, pinged = [one[1] for one in answers]
        assert [one["id"] for one in json.loads(listed)] == [task]
        assert "accuracy" in shown
        document = json.loads(downloaded)
        assert document == json.loads((net.base / "model" / "result.json").read_text())
        assert document["model"]["path"] == str(net.base / "model" / "model.safetensors")
        assert mlnet.load_model(document["model"]["path"]) is not None
        assert "has its model" in displayed
        assert "   sum" in displayed
        assert f"node {net.nodes[0].peer_id}, mlnet" in described
        assert net.nodes[1].peer_id in peers
        assert pinged.count(" ms\n") == 3
        status, out, err = await user.run("replay", "transcript.jsonl")
        assert status == 0, err


async def test_a_watch_goes_on_when_the_node_is_started_again() -> None:
    async with mission(1) as net:
        (node,) = net.nodes
        user = User(net, node)
        async with user.client() as client, aclosing(watched(client, net)) as events:
            first = await anext(events)
            assert isinstance(first, PhaseEntered)
            await node.stop()
            net.nodes.clear()
            await net.start_one(data_dir=node.data_dir)
            task = await client.task(first.task[:8])
            await task.cancel("enough")
            seen = [first] + [event async for event in events]
            assert [event.revision for event in seen] == list(range(1, len(seen) + 1))
            assert isinstance(seen[-1], TaskEnded)
            assert (seen[-1].state, seen[-1].reason) == ("cancelled", "enough")
            with pytest.raises(NotFound):
                await client.task("0" * 64)


async def watched(client: mlnet.AsyncClient, net: Mission) -> AsyncGenerator[mlnet.TaskEvent, None]:
    task = await client.submit(net.definition(requirements=HUGE))
    async with aclosing(task.watch()) as events:
        async for event in events:
            yield event


async def test_ctrl_c_detaches_or_cancels() -> None:
    async with mission(1) as net:
        user = User(net, net.nodes[0])
        file = str(net.definition(requirements=HUGE))

        # Without a terminal it cancels, as it always did.
        process = await user.spawn("submit", file, "--json")
        await said(process.stderr, b"Gather")
        process.send_signal(signal.SIGINT)
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == INTERRUPTED
        assert json.loads(out)["state"] == "cancelled"

        # At a terminal it asks.
        for answer, status, words in (
            (b"d\n", 0, b"goes on at the node"),
            (b"c\n", INTERRUPTED, b"cancelled"),
        ):
            async with terminal() as (screen, child, keyboard):
                process = await user.spawn("submit", file, terminal=child)
                await said(screen, b"Gather")
                os.write(keyboard, b"\x03")
                await said(screen, b"Enter d to detach")
                os.write(keyboard, answer)
                await said(screen, words)
                assert await asyncio.wait_for(process.wait(), 60) == status

        async with user.client() as client:
            states = sorted(task.state for task in await client.tasks())
            assert states == ["cancelled", "cancelled", "gathering"]
            (running,) = await client.tasks([mlnet.TaskState.GATHERING])
            assert (await user.run("tasks", "wait", running.id[:4], "--timeout", "1s"))[0] == 3
            assert (await user.run("tasks", "cancel", running.id[:4]))[0] == 0
            assert (await user.run("tasks", "wait", running.id[:4]))[0] == 1


@asynccontextmanager
async def terminal() -> AsyncIterator[tuple[asyncio.StreamReader, int, int]]:
    """A terminal: what is shown there, its end for a process, and its keyboard."""
    keyboard, child = os.openpty()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader),
        os.fdopen(os.dup(keyboard), "rb", 0),
    )
    try:
        yield reader, child, keyboard
    finally:
        transport.close()
        os.close(child)
        os.close(keyboard)


async def said(stream: asyncio.StreamReader | None, words: bytes) -> None:
    """Wait until a process has said something."""
    assert stream is not None
    heard = b""
    async with asyncio.timeout(60):
        while words not in heard:
            piece = await stream.read(4096)
            assert piece, heard
            heard += piece

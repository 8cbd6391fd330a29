"""A demonstration that is killed: its nodes die with it, and its files go."""

from __future__ import annotations

import asyncio
import os
import select
from pathlib import Path

from support.cluster import mission


def processes(mark: str) -> list[int]:
    """Handles of the living processes that have this mark in their environment, other than this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                handle = os.pidfd_open(int(entry.name))
                marked = mark.encode() in (entry / "environ").read_bytes()
            except OSError:
                continue
            if marked:
                found.append(handle)
            else:
                os.close(handle)
    return found


async def test_a_demonstration_that_is_killed_leaves_nothing() -> None:
    async with mission(0) as net:
        process = await net.spawn("demo", "--nodes", "2", "--output", "out")
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while line := await process.stderr.readline():
                if b"listens at" in line:
                    break
        assert list((net.base / "tmp").glob("mlnet-demo-*"))
        handles = processes(net.mark)
        assert len(handles) >= 3  # the demonstration, a node, and what removes the files
        process.kill()
        for handle in handles:
            assert await asyncio.to_thread(select.select, [handle], [], [], 30.0) == ([handle], [], [])
            os.close(handle)
        await process.wait()
        assert net.processes() == []
        assert net.left() == []
        assert not (net.base / "out").exists()

"""The torch Store on a real Redis server, as torch's own halves use it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore

from mlnet.store import KeyStore, RedisServer, find_binary
from mlnet.training.rendezvous import RendezvousStore

TASK = "7" * 64
NAMESPACE = f"mlnet:{TASK}:1"
pytestmark = pytest.mark.timeout(180)


@pytest_asyncio.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Path]:
    directory = tmp_path / "redis"
    directory.mkdir(mode=0o700)
    server = await RedisServer.start(
        find_binary(None), directory, task=TASK, ports=None, max_memory=64 << 20, host="127.0.0.1"
    )
    try:
        yield await server.gate("store")
    finally:
        await server.stop()


@pytest_asyncio.fixture
async def store(endpoint: Path) -> AsyncIterator[RendezvousStore]:
    keys = KeyStore([endpoint], NAMESPACE, 10.0)
    yield RendezvousStore(keys, timedelta(seconds=10))
    keys.close()


def exercise(store: Any) -> None:
    """What torch does with a store; through a PrefixStore it goes by way of C++."""
    store.set("key", "value")
    assert store.get("key") == b"value"
    assert [store.add("count", 2), store.add("count", 3)] == [2, 5]
    assert store.get("count") == b"5"
    assert store.compare_set("cas", "", "first") == b"first"
    assert store.compare_set("cas", "other", "second") == b"first"
    assert store.compare_set("cas", "first", "second") == b"second"
    store.append("log", "a")
    store.append("log", "b")
    assert store.get("log") == b"ab"
    store.multi_set(["x", "y"], ["1", "2"])
    assert store.multi_get(["x", "y"]) == [b"1", b"2"]
    assert store.check(["x", "key"])
    assert not store.check(["x", "missing"])
    store.wait(["x", "y"], timedelta(seconds=5))
    assert store.delete_key("x")
    assert not store.delete_key("x")
    assert store.has_extended_api()


def exercise_directly(store: RendezvousStore) -> None:
    exercise(store)
    assert store.num_keys() == 5
    assert store.clone().get("key") == b"value"


def exercise_through_prefixes(store: RendezvousStore) -> None:
    outer = PrefixStore("outer", store)
    exercise(outer)
    exercise(PrefixStore("inner", outer))
    assert not store.check(["key"])
    assert store.check(["outer/key", "outer/inner/key"])


@pytest.mark.parametrize("use", [exercise_directly, exercise_through_prefixes])
async def test_the_methods_of_a_store(store: RendezvousStore, use: Callable[[RendezvousStore], None]) -> None:
    # In a thread, since the gate of the server is served by this loop.
    await asyncio.to_thread(use, store)


async def test_waiting_ends_by_the_timeout_that_a_prefix_store_was_given(store: RendezvousStore) -> None:
    prefixed = PrefixStore("p", store)
    prefixed.set_timeout(timedelta(milliseconds=200))
    async with asyncio.timeout(8):
        with pytest.raises(dist.DistStoreError, match=r"0\.2 s"):
            await asyncio.to_thread(prefixed.get, "missing")
        with pytest.raises(dist.DistStoreError, match=r"0\.3 s"):
            await asyncio.to_thread(prefixed.wait, ["missing"], timedelta(milliseconds=300))


async def test_a_waiting_thread_wakes_when_the_key_comes(endpoint: Path, store: RendezvousStore) -> None:
    waiting = asyncio.create_task(asyncio.to_thread(store.get, "late"))
    other = KeyStore([endpoint], NAMESPACE, 10.0)
    await asyncio.to_thread(other.set, "late", b"here")
    assert await waiting == b"here"
    other.close()


RANK = """
import os, sys
from mlnet.training.ipc import TrainJob
from mlnet.training.rendezvous import join
import torch, torch.distributed as dist
rank, world, host, endpoint, task = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
join(TrainJob(definition={}, seed="", rank=rank, world=world, segments=(), files=(), inputs=1, host=host,
              endpoints=(endpoint,), task=task, attempt=1, output=""))
everyone = torch.tensor([rank + 1.0])
dist.all_reduce(everyone)
ends = dist.new_group([0, world - 1])
some = torch.tensor([rank + 1.0])
if rank in (0, world - 1):
    dist.all_reduce(some, group=ends)
dist.barrier()
print(everyone.item(), some.item(), flush=True)
dist.destroy_process_group()
os._exit(0)
"""


async def test_groups_within_the_group(endpoint: Path) -> None:
    path = os.pathsep.join(filter(None, sys.path))
    children = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", RANK, str(rank), "3", f"127.0.0.{rank + 1}", str(endpoint), TASK),
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(3)
    ]
    try:
        outputs = await asyncio.gather(*(child.communicate() for child in children))
    finally:
        for child in children:
            if child.returncode is None:
                child.kill()
                await child.wait()
    assert [output.split() for output, _ in outputs] == [
        [b"6.0", b"4.0"],
        [b"6.0", b"2.0"],
        [b"6.0", b"4.0"],
    ]

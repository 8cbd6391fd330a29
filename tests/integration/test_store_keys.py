"""Keys and progress on real servers: what threads see, what retries do, what survives the master."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.redis import NAMESPACE, TASK, running

from mlnet.errors import StoreError
from mlnet.store import KeyStore, Progress, ProgressLog, RedisServer, resp
from mlnet.store.failover_client import GRACE, MAX_REPLY
from mlnet.store.gates import Ends, splice
from mlnet.store.progress import HOLD_OFF


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with running() as made:
        yield made


@pytest.fixture
def keys(server: RedisServer) -> Iterator[KeyStore]:
    """A store, whose methods block and so run in threads while the loop serves the gates."""
    made = KeyStore([server.gate_path("store")], NAMESPACE, timeout=10)
    yield made
    made.close()


async def test_values_are_set_read_and_deleted(keys: KeyStore) -> None:
    def use() -> None:
        assert not keys.check(["a"])
        keys.set("a", b"\0\r\n\xff")
        keys.set("b", b"")
        keys.set("a", b"2")
        assert keys.multi_get(["b", "a", "b"]) == [b"", b"2", b""]
        assert keys.check(["a", "b", "a"])
        assert not keys.check(["a", "c"])
        assert keys.num_keys() == 2
        assert keys.delete("a")
        assert not keys.delete("a")
        assert keys.num_keys() == 1
        keys.multi_set(["x", "y"], [b"1", b"2"])
        assert keys.multi_get(["x", "y"]) == [b"1", b"2"]

    await asyncio.to_thread(use)


async def test_numbers_add_up(keys: KeyStore) -> None:
    def use() -> None:
        assert keys.add("n", 5) == 5
        assert keys.add("n", -7) == -2
        assert keys.get("n") == b"-2"
        keys.set("n", b"40")
        assert keys.add("n", 2) == 42
        keys.set("n", b"word")
        with pytest.raises(StoreError, match="not a number"):
            keys.add("n", 1)
        assert keys.get("n") == b"word"

    await asyncio.to_thread(use)


async def test_values_are_appended_and_compared(keys: KeyStore) -> None:
    def use() -> None:
        keys.append("l", b"a\0")
        keys.append("l", b"b")
        assert keys.get("l") == b"a\0b"
        assert keys.compare_set("c", b"other", b"1") == b"other"
        assert not keys.check(["c"])
        assert keys.compare_set("c", b"", b"1") == b"1"
        assert keys.compare_set("c", b"", b"2") == b"1"
        assert keys.compare_set("c", b"1", b"2") == b"2"
        assert keys.get("c") == b"2"

    await asyncio.to_thread(use)


async def test_a_thread_that_waits_is_woken_by_one_that_sets(
    keys: KeyStore, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Were it not told, it would look again only when the test is over.
    monkeypatch.setattr("mlnet.store.failover_client.SLICE", 60.0)
    other = KeyStore([server.gate_path("store")], NAMESPACE)
    waiting = asyncio.create_task(asyncio.to_thread(keys.multi_get, ["a", "b"], 30))
    await asyncio.to_thread(other.set, "a", b"1")
    await asyncio.to_thread(other.add, "b", 2)
    async with asyncio.timeout(20):
        assert await waiting == [b"1", b"2"]
    other.close()


async def test_an_absent_key_is_named_when_time_is_over(keys: KeyStore) -> None:
    def use() -> None:
        keys.set("here", b"1")
        with pytest.raises(TimeoutError, match=r"after 0\.1 s the store has no gone, lost$"):
            keys.wait(["lost", "here", "gone"], 0.1)

    await asyncio.to_thread(use)


async def test_namespaces_and_tasks_are_apart(keys: KeyStore, server: RedisServer) -> None:
    def use() -> None:
        keys.set("a", b"1")
        second = KeyStore([server.gate_path("store")], f"mlnet:{TASK}:2")
        assert not second.check(["a"])
        second.close()
        foreign = KeyStore([server.gate_path("store")], f"mlnet:{'ab' * 32}:1")
        with pytest.raises(StoreError, match="No permissions to access a key"):
            foreign.set("a", b"1")
        foreign.close()

    await asyncio.to_thread(use)


@pytest.mark.parametrize("namespace", ["", "mlnet:x:1", f"mlnet:{TASK}:1*", f"mlnet:{TASK}:"])
def test_what_is_no_namespace_is_refused(namespace: str) -> None:
    with pytest.raises(StoreError, match="is not a namespace"):
        KeyStore([Path("/nowhere")], namespace)


async def test_sizes_are_bounded(keys: KeyStore) -> None:
    def use() -> None:
        with pytest.raises(ValueError, match="16777217 bytes"):
            keys.set("a", bytes((16 << 20) + 1))
        with pytest.raises(ValueError, match="a key of 1025 bytes"):
            keys.set("k" * 1025, b"")
        with pytest.raises(ValueError, match="5000 keys"):
            keys.check([str(number) for number in range(5000)])
        with pytest.raises(ValueError, match="too large to be added"):
            keys.add("n", 1 << 54)
        keys.set("big", bytes(16 << 20))
        assert len(keys.get("big")) == 16 << 20
        with pytest.raises(StoreError, match="value is too large"):
            keys.append("big", b"1")

    await asyncio.to_thread(use)


async def test_a_change_whose_answer_is_lost_is_made_once(server: RedisServer) -> None:
    """A tunnel carries the change to the server, and breaks before the answer; the retry goes through."""
    broken = asyncio.Event()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: Ends = await asyncio.open_unix_connection(server.gate_path("store"))
        if broken.is_set():
            await splice((reader, writer), far)
        while not broken.is_set() and (data := await reader.read(1 << 16)):
            far[1].write(data)
            answer = await far[0].read(1 << 16)
            if b"mlnet_add" in data:
                assert answer.startswith(b"$1\r\n5"), answer
                broken.set()
            else:
                writer.write(answer)
        far[1].close()
        writer.close()

    path = server.unix_socket.with_name("t")
    listener = await asyncio.start_unix_server(tunnel, path)
    store = KeyStore([path], NAMESPACE, timeout=10)
    assert await asyncio.to_thread(store.add, "n", 5) == 5
    assert broken.is_set()
    assert await asyncio.to_thread(store.add, "n", 1) == 6
    store.close()
    listener.close()
    path.unlink(missing_ok=True)


async def test_the_store_goes_on_at_the_promoted_slave(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the slave has not confirmed may be lost; a busy machine takes longer than training would wait.
    monkeypatch.setattr("mlnet.store.failover_client.CONFIRM_MS", 4000)
    async with running() as slave:
        await slave.replicate_from(server.gate_path("replica"), timeout=10)
        endpoints = [server.gate_path("store"), slave.gate_path("store")]
        store, late = KeyStore(endpoints, NAMESPACE, timeout=20), KeyStore(endpoints, NAMESPACE, timeout=20)
        assert await asyncio.to_thread(store.add, "n", 1) == 1
        waiting = asyncio.create_task(asyncio.to_thread(late.get, "later"))
        server._process.kill()
        await server._process.wait()
        adding = asyncio.create_task(asyncio.to_thread(store.add, "n", 1))
        await slave.promote()
        assert await adding == 2
        await asyncio.to_thread(store.set, "later", b"x")
        assert await waiting == b"x"
        store.close()
        late.close()


async def test_without_a_master_a_change_ends_in_time(server: RedisServer) -> None:
    store = KeyStore([server.gate_path("store")], NAMESPACE, timeout=0.2)
    await server.stop()
    with pytest.raises(StoreError, match="no master among the task's Redis servers"):
        await asyncio.to_thread(store.set, "a", b"1")
    store.close()


async def test_closing_ends_what_is_under_way(server: RedisServer) -> None:
    store = KeyStore([server.gate_path("store")], NAMESPACE)
    await server.stop()
    adding = asyncio.create_task(asyncio.to_thread(store.add, "n", 1))
    store.close()
    with pytest.raises(StoreError, match=r"no master|is closed"):
        await adding


async def test_threads_share_a_store(keys: KeyStore) -> None:
    def add() -> None:
        for _ in range(50):
            keys.add("n", 1)

    def use() -> None:
        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert keys.get("n") == b"200"

    await asyncio.to_thread(use)


def entry(step: int) -> Progress:
    return Progress(epoch=1, epochs=2, step=step, steps=20, loss=0.5, accuracy=None, rank=0)


async def test_progress_is_followed_from_its_beginning_as_it_comes(server: RedisServer) -> None:
    log = ProgressLog([server.gate_path("store")], TASK, 1)
    assert await asyncio.to_thread(log.append, entry(1))
    following = ProgressLog.follow(server.gate_path("progress"), TASK, 1)
    async with asyncio.timeout(10):
        assert await anext(following) == entry(1)
        reading = asyncio.ensure_future(anext(following))
        assert await asyncio.to_thread(log.append, entry(2))
        assert await reading == entry(2)
        reading = asyncio.ensure_future(anext(following))
        await server.stop()
        with pytest.raises(StoreError, match="closed the connection"):
            await reading
    log.close()


async def test_progress_of_another_attempt_is_not_seen(server: RedisServer) -> None:
    first, second = (ProgressLog([server.gate_path("store")], TASK, attempt) for attempt in (1, 2))
    assert await asyncio.to_thread(first.append, entry(1))
    assert await asyncio.to_thread(second.append, entry(2))
    async with asyncio.timeout(10):
        async with contextlib.aclosing(
            ProgressLog.follow(server.gate_path("progress"), TASK, 2)
        ) as following:
            assert await anext(following) == entry(2)
    first.close()
    second.close()


async def test_a_lost_server_does_not_hold_training_up(server: RedisServer) -> None:
    log = ProgressLog([server.gate_path("store")], TASK, 1)
    await server.stop()
    assert not await asyncio.to_thread(log.append, entry(1))
    start = time.monotonic()
    assert not any([await asyncio.to_thread(log.append, entry(step)) for step in range(100)])
    assert time.monotonic() - start < HOLD_OFF
    log.close()


async def test_a_frozen_server_holds_training_up_once(server: RedisServer) -> None:
    log = ProgressLog([server.gate_path("store")], TASK, 1)
    assert await asyncio.to_thread(log.append, entry(1))
    server._process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    assert not any([await asyncio.to_thread(log.append, entry(step)) for step in range(100)])
    assert time.monotonic() - start < HOLD_OFF
    server._process.send_signal(signal.SIGCONT)
    log.close()


async def test_a_hostile_masters_progress_is_a_store_error(server: RedisServer) -> None:
    async def master(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await resp.Decoder(reader).read()
        writer.write(b"$999999999999\r\n" + bytes(1000))
        writer.close()

    path = server.unix_socket.with_name("m")
    hostile = await asyncio.start_unix_server(master, path)
    with pytest.raises(StoreError, match="larger than"):
        await anext(ProgressLog.follow(path, TASK, 1))
    hostile.close()
    path.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def hostile_master(
    path: Path, answer: bytes, again: bytes = b"", pause: float = 0.0
) -> AsyncIterator[None]:
    """A server that says it is the master, and answers with ``answer``, then ``again`` without end."""
    served: list[asyncio.Task[None]] = []

    async def master(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = resp.Decoder(reader)
        known = {b"ROLE": b"*1\r\n$6\r\nmaster\r\n", b"CLIENT": b"+OK\r\n"}
        with contextlib.suppress(StoreError, ConnectionError):
            while isinstance(words := await decoder.read(), list):
                assert isinstance(words[0], bytes)
                writer.write(known.get(words[0], answer))
                while words[0] not in known and again:
                    writer.write(again)
                    await writer.drain()
                    await asyncio.sleep(pause)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.create_task(master(reader, writer)))

    server = await asyncio.start_unix_server(accept, path)
    yield
    server.close()
    async with asyncio.timeout(10):
        await asyncio.gather(*served)


@pytest.mark.parametrize("answer", [b":abc\r\n", b"$abc\r\n", b"*1\r\n" * 5000 + b":1\r\n"])
async def test_a_hostile_masters_values_are_a_store_error(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "v"
    async with hostile_master(path, answer):
        store = KeyStore([path], NAMESPACE, timeout=10)
        for call in (store.get, store.delete):
            with pytest.raises(StoreError, match="answer is malformed"):
                await asyncio.to_thread(call, "a")
        store.close()


ENDLESS = {
    "a value": (b"$419430400\r\n", bytes(1 << 16)),
    "a line": (b"+", bytes(1 << 16)),
    "a list": (b"*1000000000\r\n", b":1\r\n" * (1 << 14)),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_a_hostile_masters_endless_answer_is_not_buffered(tmp_path: Path, what: str) -> None:
    path = tmp_path / "v"
    async with hostile_master(path, *ENDLESS[what]):
        store = KeyStore([path], NAMESPACE, timeout=60)
        tracemalloc.start()
        with pytest.raises(StoreError, match=f"larger than {MAX_REPLY} bytes"):
            await asyncio.to_thread(store.check, ["a"])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 64 * MAX_REPLY
        store.close()


async def test_a_value_takes_no_more_than_a_value_may(tmp_path: Path) -> None:
    path = tmp_path / "v"
    async with hostile_master(path, b"$419430400\r\n", bytes(1 << 20)):
        store = KeyStore([path], NAMESPACE, timeout=60)
        for call in (store.get, store.delete):
            with pytest.raises(StoreError, match=r"larger than 168[0-9]{5} bytes"):
                await asyncio.to_thread(call, "a")
        store.close()


async def test_a_hostile_masters_slow_answer_ends_with_the_call(tmp_path: Path) -> None:
    """Each byte comes before the server would count as silent."""
    path = tmp_path / "v"
    async with hostile_master(path, b"+", b"x", pause=0.05):
        store = KeyStore([path], NAMESPACE, timeout=0.2)
        began = time.monotonic()
        with pytest.raises(StoreError, match="no master"):
            await asyncio.to_thread(store.check, ["a"])
        assert GRACE <= time.monotonic() - began < 2 * GRACE
        store.close()

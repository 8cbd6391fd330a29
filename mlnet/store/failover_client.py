"""A trainer's connection to whichever of the task's servers is the master.

Clients do not promote anything: the committee does, and a client asks each server for its ROLE until one is a
master.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ReadOnlyError, RedisError
from redis.retry import Retry

from mlnet.errors import StoreError
from mlnet.store.connection import BoundedConnection, ReplyBudget

SLICE = 2.0
"""Seconds that one command may block on the server. A server that has not answered GRACE seconds after that
is lost; with longer slices a dead master would be noticed later, with shorter ones waiting costs more
commands."""
GRACE = 3.0
"""Seconds beyond its deadline in which a call under way may still get its reply. The server may be busy, and
the reply crosses two tunnels."""
MAX_REPLY = 1 << 16
"""Bytes of a reply that holds no values."""
CONFIRM_MS = 100
"""Milliseconds that a write waits for the replica to confirm it (WAIT). It makes losing a write unlikely, not
impossible: without a confirmation the write counts all the same. Longer waits delay every write while the
    replica
is dead."""
UNCONFIRMED = 1.0
"""Seconds without such a wait after one timed out: a dead replica costs a tenth of the time at most."""
FIRST_BACKOFF, MAX_BACKOFF = 0.02, 0.5
"""Seconds between two looks for the master; doubled each time. The longest one is what a promotion adds to a
failover at worst."""
# BusyLoadingError: a server that still loads its data. ReadOnlyError: it was the master until a moment ago.
# Both mean "look again", like a lost connection.
_LOST = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, BusyLoadingError, ReadOnlyError)


class FailoverClient:
    """A connection pool to the master, which is looked for again when it is lost. Threads may share it.

    Args:
        endpoints: unix sockets that lead to the master and then to the slave, as members.
        silence: seconds without a reply after which a server counts as lost; None for SLICE + GRACE, which
            suits blocking commands.
    """

    def __init__(self, endpoints: Sequence[Path], silence: float | None = None) -> None:
        self._silence = SLICE + GRACE if silence is None else silence
        self._endpoints = tuple(endpoints)
        self._lock = threading.Lock()
        self._client: redis.Redis | None = None
        self._closed = threading.Event()
        self._unconfirmed_until = 0.0
        self._budget = ReplyBudget()

    def call(
        self, *parts: str | bytes | int, deadline: float, confirm: bool = False, most: int = MAX_REPLY
    ) -> object:
        """Execute a command on the master, again after each failover until it succeeds; return the raw reply.

        Args:
            parts: the command. It may be executed several times, when a reply is lost.
            deadline: time.monotonic() after which there is no further attempt.
            confirm: wait CONFIRM_MS for the replica to have what was written.
            most: bytes that the reply may have.

        Raises:
            StoreError: there was no master until the deadline, it refused the command, or its reply is
                malformed or too large.
        """
        backoff = FIRST_BACKOFF
        until = deadline + min(self._silence, GRACE)
        while True:
            client = None
            self._budget.grant(until, most)
            try:
                client = self._master()
                return self._confirmed(client, parts) if confirm else _execute(client, *parts)
            except _LOST as error:
                self._drop(client)
                left = deadline - time.monotonic()
                if left <= 0 or self._closed.wait(min(backoff, left)):
                    raise StoreError(f"no master among the task's Redis servers: {error}") from error
                backoff = min(2 * backoff, MAX_BACKOFF)
            except RedisError as error:
                raise StoreError(f"the Redis server says: {error}") from error
            except (ValueError, RecursionError) as error:
                # redis-py raises these for bytes that are not a reply; nothing after them can be parsed.
                self._drop(client)
                raise StoreError("the Redis server's answer is malformed") from error

    def close(self) -> None:
        """Close the connections; calls under way fail."""
        self._closed.set()
        self._drop(self._client)

    def _master(self) -> redis.Redis:
        if self._closed.is_set():
            raise StoreError("the store is closed")
        # Held while the master is looked for: other threads wait for the result instead of looking
        # themselves.
        with self._lock:
            if self._client is None:
                self._client = self._find()
            return self._client

    def _find(self) -> redis.Redis:
        problem: RedisError = redis.exceptions.ConnectionError("none of them is a master")
        # The slave first: if it says "master", it was promoted, and stays the master even if the former one
        # comes back and says so as well.
        for path in reversed(self._endpoints):
            client = _client(path, self._silence, self._budget)
            try:
                role = _execute(client, "ROLE")
            except _LOST as error:
                problem = error
            else:
                if isinstance(role, list) and role[:1] == [b"master"]:
                    return client
            client.connection_pool.disconnect()
        raise problem

    def _confirmed(self, client: redis.Redis, parts: tuple[str | bytes | int, ...]) -> object:
        if time.monotonic() < self._unconfirmed_until:
            return _execute(client, *parts)
        pipeline: Any = client.pipeline(transaction=False)
        pipeline.execute_command(*parts)
        pipeline.execute_command("WAIT", 1, CONFIRM_MS)
        reply, confirmed = pipeline.execute()
        if confirmed == 0:
            self._unconfirmed_until = time.monotonic() + UNCONFIRMED
        return reply

    def _drop(self, client: redis.Redis | None) -> None:
        if client is None:
            return
        with self._lock:
            # Another thread may have replaced it already.
            if self._client is client:
                self._client = None
        with contextlib.suppress(RedisError, OSError):
            client.connection_pool.disconnect()


def _execute(client: Any, *parts: str | bytes | int) -> object:
    """The method is untyped."""
    return client.execute_command(*parts)


def _client(path: Path, silence: float, budget: ReplyBudget) -> redis.Redis:
    pool: Any = redis.ConnectionPool(
        connection_class=BoundedConnection,
        budget=budget,
        path=str(path),
        socket_timeout=silence,
        socket_connect_timeout=silence,
        # No retry by redis-py: call() decides, and has to look for the master first.
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    client = redis.Redis(connection_pool=pool)
    # Raw replies: the objects that redis-py makes of them differ between its versions.
    client.response_callbacks.clear()
    return client

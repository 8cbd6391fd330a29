"""Keys and values that the ranks of a task share: what a ``torch.distributed.Store`` needs, without torch.

A key is a stream of one entry. That makes waiting for it one blocking read (XREAD from the beginning): nobody
polls, and no wake-up can be lost. Changes are functions on the server (functions.lua) that drop a retry's
duplicate.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mlnet.errors import StoreError

if TYPE_CHECKING:
    from mlnet.store.failover_client import FailoverClient

MAX_VALUE = 16 << 20
"""Bytes of a value."""
MAX_VALUES = 4 * MAX_VALUE
"""Bytes of the values that one call reads."""
MAX_KEY = 1024
"""Bytes of a key."""
OVERHEAD = 256
"""Bytes beside key and value that an answer spends on a key."""
MAX_KEYS = 4096
"""Keys of one call."""
MAX_NUMBER = 1 << 53

T = TypeVar("T")

_NAMESPACE = re.compile(r"mlnet:[0-9a-f]{64}:[0-9a-zA-Z:._-]{1,64}")


class KeyStore:
    """The keys of one namespace. Threads may share it.

    Every method takes part in a failover: it looks for the new master and tries again until its time is over.
    An absent key ends in TimeoutError, an unreachable master in StoreError.

    Args:
        endpoints: unix sockets that lead to the master and then to the slave, as members.
        namespace: ``mlnet:TASK:ATTEMPT``.
        timeout: seconds that a call may take unless it says otherwise.

    Raises:
        StoreError: the namespace is not a task's.
    """

    def __init__(self, endpoints: Sequence[Path], namespace: str, timeout: float = 60.0) -> None:
        from mlnet.store.failover_client import FailoverClient

        if not _NAMESPACE.fullmatch(namespace):
            raise StoreError(f"{namespace!r} is no namespace; it is mlnet:TASK:ATTEMPT")
        self.timeout = timeout
        self._link: FailoverClient = FailoverClient(endpoints)
        self._prefix = f"{namespace}:k:"
        self._changes = f"{namespace}:changes"
        self._client = uuid.uuid4().hex
        self._seq = 0
        self._writing = threading.Lock()

    def set(self, key: str, value: bytes) -> None:
        """Give a key a value."""
        self._change("mlnet_set", [key], _sized(value))

    def multi_set(self, keys: Sequence[str], values: Sequence[bytes]) -> None:
        """Give each key its value, all at once."""
        if len(keys) != len(values):
            raise ValueError(f"{len(keys)} keys, {len(values)} values")
        if keys:
            _sized(b"".join(values))
            self._change("mlnet_set", keys, *values)

    def add(self, key: str, amount: int) -> int:
        """Add to a key's number, 0 if it is absent: the sum."""
        if abs(amount) > MAX_NUMBER:
            raise ValueError(f"{amount} is too large to be added")
        return int(self._change("mlnet_add", [key], str(amount).encode()))

    def append(self, key: str, value: bytes) -> None:
        """Add bytes to the end of a key's value, empty if it is absent."""
        self._change("mlnet_append", [key], _sized(value))

    def compare_set(self, key: str, expected: bytes, desired: bytes) -> bytes:
        """Give a key a value if it has the expected one: the value that it has then.

        An absent key gets it if the expected value is empty; else it stays absent, and the expected value is
        returned.
        """
        return self._change("mlnet_compare_set", [key], _sized(expected), _sized(desired))

    def delete(self, key: str) -> bool:
        """Remove a key: whether there was one."""
        return self._change("mlnet_delete", [key]) == b"1"

    def get(self, key: str, timeout: float | None = None) -> bytes:
        """A key's value, once there is one.

        Args:
            key: its name.
            timeout: seconds; None for the store's.

        Raises:
            TimeoutError: there is none by then.
        """
        return self.multi_get([key], timeout)[0]

    def multi_get(self, keys: Sequence[str], timeout: float | None = None) -> list[bytes]:
        """The values of keys, once all have one; see :meth:`get`."""
        found = self._read(keys, self.timeout if timeout is None else timeout)
        return [found[key] for key in keys]

    def wait(self, keys: Sequence[str], timeout: float | None = None) -> None:
        """Return once all keys have a value; see :meth:`get`."""
        self._read(keys, self.timeout if timeout is None else timeout)

    def check(self, keys: Sequence[str]) -> bool:
        """Whether all keys have a value now."""
        names = self._names(dict.fromkeys(keys))
        if not names:
            return True
        return self._link.call("EXISTS", *names, deadline=self._deadline()) == len(names)

    def num_keys(self) -> int:
        """How many keys there are."""
        count = self._link.call("FCALL_RO", "mlnet_count", 0, f"{self._prefix}*", deadline=self._deadline())
        return _checked(count, int)

    def close(self) -> None:
        """Close the connections; calls under way fail."""
        self._link.close()

    def _deadline(self) -> float:
        return time.monotonic() + self.timeout

    def _names(self, keys: Sequence[str] | dict[str, None]) -> list[str]:
        if len(keys) > MAX_KEYS:
            raise ValueError(f"{len(keys)} keys in one call; {MAX_KEYS} at most")
        for key in keys:
            if len(key.encode()) > MAX_KEY:
                raise ValueError(f"a key of {len(key.encode())} bytes; {MAX_KEY} at most")
        return [self._prefix + key for key in keys]

    def _change(self, function: str, keys: Sequence[str], *values: bytes) -> bytes:
        """Run a function of functions.lua: its answer."""
        from mlnet.store.failover_client import MAX_REPLY

        names = self._names(keys)
        # One change at a time: the server remembers the last one of each client.
        with self._writing:
            self._seq += 1
            subject: list[str | bytes | int] = [
                1 + len(names),
                self._changes,
                *names,
                self._client,
                self._seq,
            ]
            answer = self._link.call(
                *("FCALL", function, *subject, *values),
                deadline=self._deadline(),
                confirm=True,
                most=MAX_VALUE + MAX_REPLY,
            )
        return _checked(answer, bytes)

    def _read(self, keys: Sequence[str], timeout: float) -> dict[str, bytes]:
        """The values of keys, once all have one."""
        from mlnet.store.failover_client import MAX_REPLY, SLICE

        deadline = time.monotonic() + timeout
        names = dict(zip((name.encode() for name in self._names(keys)), keys, strict=True))
        found: dict[str, bytes] = {}
        while names:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"after {timeout:g} s the store has no {', '.join(sorted(names.values()))}"
                )
            pause = max(1, int(1000 * min(left, SLICE)))
            streams: list[bytes] = [*names, *[b"0-0"] * len(names)]
            reply = self._link.call(
                *("XREAD", "COUNT", 1, "BLOCK", pause, "STREAMS"),
                *streams,
                deadline=deadline,
                most=min(MAX_VALUES, len(names) * MAX_VALUE) + len(names) * (MAX_KEY + OVERHEAD) + MAX_REPLY,
            )
            for name, value in _entries(reply):
                if name in names:
                    found[names.pop(name)] = value
        return found


def _entries(reply: object) -> list[tuple[bytes, bytes]]:
    """The keys and values in a reply to XREAD."""
    entries = []
    for stream in reply if isinstance(reply, list) else []:
        match stream:
            case [bytes(name), [[_, [b"v", bytes(value)]]]]:
                entries.append((name, value))
            case _:
                raise StoreError("the Redis server's answer to XREAD is malformed")
    return entries


def _checked(answer: object, kind: type[T]) -> T:
    if not isinstance(answer, kind):
        raise StoreError("the Redis server's answer is malformed")
    return answer


def _sized(value: bytes) -> bytes:
    if len(value) > MAX_VALUE:
        raise ValueError(f"a value of {len(value)} bytes; {MAX_VALUE} at most")
    return value

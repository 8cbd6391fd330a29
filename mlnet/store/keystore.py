"""Keys and values that the ranks of a task share: what a ``torch.distributed.Store`` needs, without torch.

A key is a Redis stream of one entry. Waiting for it is then one blocking read (XREAD from the beginning):
nothing polls, and no wake-up can be lost. Changes are functions on the server (functions.lua), which
recognise a retry whose first reply was lost.
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
"""Bytes of a value. The bound is what a hostile master can make a trainer
hold, and the same in functions.lua and config.MAX_BULK."""
MAX_VALUES = 4 * MAX_VALUE
"""Bytes of all values that one call reads."""
MAX_KEY = 1024
"""Bytes of a key."""
OVERHEAD = 256
"""Bytes of a reply to XREAD for each key, beside the key and its value: RESP framing and entry ids."""
MAX_KEYS = 4096
"""Keys of one call."""
MAX_NUMBER = 1 << 53
"""The largest sum of add(): Lua's numbers are doubles, exact to 2^53."""

T = TypeVar("T")

# The ACL rules of the store user match it (config.RULES).
_NAMESPACE = re.compile(r"mlnet:[0-9a-f]{64}:[0-9a-zA-Z:._-]{1,64}")


class KeyStore:
    """The keys of one namespace. Threads may share it.

    Every method survives a failover: it looks for the new master and tries again until its time is over. A
    key that stays absent raises TimeoutError, an unreachable master StoreError.

    Args:
        endpoints: unix sockets that lead to the master and then to the slave, as members.
        namespace: ``mlnet:TASK:ATTEMPT``.
        timeout: default seconds of a call.

    Raises:
        StoreError: the namespace is not a task's.
    """

    def __init__(self, endpoints: Sequence[Path], namespace: str, timeout: float = 60.0) -> None:
        from mlnet.store.failover_client import FailoverClient

        if not _NAMESPACE.fullmatch(namespace):
            raise StoreError(f"{namespace!r} is not a namespace; use mlnet:TASK:ATTEMPT")
        self.timeout = timeout
        self._link: FailoverClient = FailoverClient(endpoints)
        self._prefix = f"{namespace}:k:"
        self._changes = f"{namespace}:changes"
        # Names this store in the server's log of changes; a rank that restarts is another client.
        self._client = uuid.uuid4().hex
        self._seq = 0
        self._writing = threading.Lock()

    def set(self, key: str, value: bytes) -> None:
        """Set a key to a value."""
        self._change("mlnet_set", [key], _sized(value))

    def multi_set(self, keys: Sequence[str], values: Sequence[bytes]) -> None:
        """Set each key to its value, all of them atomically."""
        if len(keys) != len(values):
            raise ValueError(f"{len(keys)} keys, {len(values)} values")
        if keys:
            _sized(b"".join(values))
            self._change("mlnet_set", keys, *values)

    def add(self, key: str, amount: int) -> int:
        """Add to a key's number, which is 0 if the key is absent; return the sum."""
        if abs(amount) > MAX_NUMBER:
            raise ValueError(f"{amount} is too large to be added")
        return int(self._change("mlnet_add", [key], str(amount).encode()))

    def append(self, key: str, value: bytes) -> None:
        """Append bytes to a key's value, which is empty if the key is absent."""
        self._change("mlnet_append", [key], _sized(value))

    def compare_set(self, key: str, expected: bytes, desired: bytes) -> bytes:
        """Set a key to a value if it has the expected one; return the value that it has afterwards.

        An absent key is set if the expected value is empty. Otherwise it stays absent, and the expected value
        is returned, as ``torch.distributed.Store`` does.
        """
        return self._change("mlnet_compare_set", [key], _sized(expected), _sized(desired))

    def delete(self, key: str) -> bool:
        """Delete a key; return whether it was there."""
        return self._change("mlnet_delete", [key]) == b"1"

    def get(self, key: str, timeout: float | None = None) -> bytes:
        """Wait for a key and return its value.

        Args:
            key: its name.
            timeout: seconds; None for the store's.

        Raises:
            TimeoutError: the key was absent until then.
        """
        return self.multi_get([key], timeout)[0]

    def multi_get(self, keys: Sequence[str], timeout: float | None = None) -> list[bytes]:
        """Wait for all keys and return their values; see :meth:`get`."""
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
        """Run a function of functions.lua; return its answer."""
        from mlnet.store.failover_client import MAX_REPLY

        names = self._names(keys)
        # One change at a time: the server remembers only the last change of each client.
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
            # At least 1 ms: BLOCK 0 would block without end.
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

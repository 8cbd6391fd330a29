"""The progress of training, which rank 0 writes to the master's Redis for members and the client to read."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mlnet.errors import StoreError
from mlnet.store import resp

MAX_ENTRIES = 10_000
"""Entries that the server keeps, roughly (MAXLEN ~): a quarter of an hour at ten entries a second. A reader
that falls further behind misses some."""
BATCH = 64
"""Entries of one read; bounds what a hostile server can send at once."""
BLOCK = 5.0
"""Seconds that a read waits for a new entry. Its empty reply tells a slow training from a silent server."""
GRACE = 10.0
"""Seconds beyond BLOCK after which the server counts as lost. The reader is the client, far away perhaps."""
APPEND_TIMEOUT = 1.0
"""Seconds for an entry to be written. The training waits meanwhile, so it is short."""
HOLD_OFF = 5.0
"""Seconds without an attempt after one has failed: a lost server costs a training a sixth of its time at
most, and its display only a few entries."""
FIELD = b"p"

Count = Annotated[int, Meta(ge=0, le=1 << 53)]


class Progress(msgspec.Struct, frozen=True):
    """Where one rank is.

    Attributes:
        epoch: from 1.
        epochs: of the whole training.
        step: steps done, over all epochs.
        steps: of the whole training.
        loss: the latest; None when there is none yet, or it is not finite.
        accuracy: on the validation rows, 0 to 1; None until there is one.
        rank: whose.
    """

    epoch: Count
    epochs: Count
    step: Count
    steps: Count
    loss: float | None
    accuracy: Annotated[float, Meta(ge=0, le=1)] | None
    rank: Count

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return msgspec.structs.asdict(self)


_decode = msgspec.json.Decoder(Progress).decode


class ProgressLog:
    """Writes one attempt's progress.

    Args:
        endpoints: unix sockets that lead to the master and then to the slave, as members.
        task: its id.
        attempt: of the cluster, from 0.
    """

    def __init__(self, endpoints: Sequence[Path], task: str, attempt: int) -> None:
        from mlnet.store.failover_client import FailoverClient

        self._link = FailoverClient(endpoints, silence=APPEND_TIMEOUT)
        self._key = key(task, attempt)
        self._not_before = 0.0

    def append(self, progress: Progress) -> bool:
        """Write an entry; return whether it was written. Never raises: training goes on without its
        display."""
        now = time.monotonic()
        if now < self._not_before:
            return False
        entry = ("XADD", self._key, "MAXLEN", "~", MAX_ENTRIES, "*", FIELD, msgspec.json.encode(progress))
        try:
            self._link.call(*entry, deadline=now + APPEND_TIMEOUT)
        except StoreError:
            self._not_before = time.monotonic() + HOLD_OFF
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        self._link.close()

    @staticmethod
    async def follow(path: Path, task: str, attempt: int) -> AsyncGenerator[Progress, None]:
        """Yield all entries of an attempt, from the first one on, as they are written.

        Args:
            path: unix socket that leads to a server's progress gate.
            task: its id.
            attempt: of the cluster.

        Raises:
            StoreError: the connection is lost, or an entry is malformed.
        """
        name, last = key(task, attempt), b"0-0"
        async with resp.RespConnection.open(path) as connection:
            while True:
                reply = await connection.call(
                    *("XREAD", "COUNT", BATCH, "BLOCK", int(1000 * BLOCK), "STREAMS", name, last),
                    timeout=BLOCK + GRACE,
                )
                for number, progress in _parse(reply, name.encode(), last):
                    last = number
                    yield progress


def key(task: str, attempt: int) -> str:
    """The Redis key of an attempt's stream."""
    return f"mlnet:{task}:{attempt}:progress"


def _parse(reply: resp.Reply, name: bytes, last: bytes) -> list[tuple[bytes, Progress]]:
    """The entries of a reply to XREAD, each newer than the one before."""
    if reply is None:
        return []
    found: list[tuple[bytes, Progress]] = []
    match reply:
        case [[bytes(stream), [*entries]]] if stream == name and 0 < len(entries) <= BATCH:
            pass
        case _:
            raise StoreError("the Redis server's answer to XREAD is malformed")
    for entry in entries:
        match entry:
            case [bytes(number), [bytes(field), bytes(data)]] if field == FIELD and _order(number) > _order(
                last
            ):
                last = number
                found.append((number, _progress(data)))
            case _:
                raise StoreError("an entry of the progress is malformed")
    return found


def _order(number: bytes) -> tuple[int, int]:
    time_ms, dash, count = number.partition(b"-")
    # Two numbers of at most 20 digits (64 bits), and the dash.
    if not dash or len(number) > 41 or not (time_ms.isdigit() and count.isdigit()):
        raise StoreError("the number of an entry of the progress is malformed")
    return int(time_ms), int(count)


def _progress(data: bytes) -> Progress:
    try:
        progress = _decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise StoreError(f"an entry of the progress is malformed: {error}") from error
    if progress.loss is not None and not math.isfinite(progress.loss):
        raise StoreError("an entry of the progress is malformed: its loss is not a number")
    return progress

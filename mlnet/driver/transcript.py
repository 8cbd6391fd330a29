"""The signed messages of a task as a party saw them, hash-chained, one file a task, for whoever asks later.

A line is a JSON record of a message and of the chain up to it: SHA-256 over the link before, the SHA-256 of
the message's string, and its signature. The first link is the SHA-256 of the context and the task's id. A
line that is changed, left out or moved breaks the chain; the signatures say who wrote what.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from mlnet.errors import DataError, RemoteProtocolError
from mlnet.identity.envelope import Envelope
from mlnet.protocol.commands import Command, Publish, Send
from mlnet.protocol.events import Event, Received
from mlnet.protocol.wire.messages import Message, Signed
from mlnet.util import files

CONTEXT = b"mlnet-transcript-1\0"
MAX_MESSAGES = 20_000
"""Messages of a task that are kept: 1,024 members, each of whom says fewer than twenty
(evidence.PER_SENDER)."""
MAX_BYTES = 64 << 20
"""The same for the file: a hostile client may not fill the disk with its lists of members."""
KEPT = 64
"""Files that a party keeps; the oldest go first."""


class _Line(msgspec.Struct, frozen=True):
    chain: str
    message: Signed


class Transcript:
    """An append-only file of the messages of one task; each message once.

    Args:
        path: of the file; made with mode 0600 when it is missing, taken up where it ends when it is there.
        me: peer id of the party whose transcript it is.
        task: the task's id.
    """

    def __init__(self, path: Path, me: str, task: str) -> None:
        self._me = me
        self._known: set[str] = set()
        self._chain = first_link(task)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._size = whole = 0
        if path.exists():
            for line, end in _lines(path):
                self._chain = line.chain
                self._known.add(line.message.envelope.digest)
                whole = end
            os.truncate(path, whole)  # a crash may have cut the last line short
            self._size = whole
        else:
            _make_room(path.parent)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def step(self, event: Event | None, commands: Iterable[Command]) -> None:
        """Note the message that came in, if one did, and those of our own that go out."""
        if isinstance(event, Received):
            self._append(event.message)
        for command in commands:
            if isinstance(command, Send | Publish) and command.message.sender == self._me:
                self._append(command.message)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _append(self, message: Message) -> None:
        digest = message.envelope.digest
        if digest in self._known or len(self._known) >= MAX_MESSAGES:
            return
        chain = next_link(self._chain, message.envelope)
        data = msgspec.json.encode(_Line(chain, Signed.of(message.envelope))) + b"\n"
        if self._size + len(data) > MAX_BYTES:
            return
        self._size = files.append(self._file, data, self._size, durable=False)
        self._known.add(digest)
        self._chain = chain


def first_link(task: str) -> str:
    """The chain before the first message, hex."""
    return hashlib.sha256(CONTEXT + task.encode()).hexdigest()


def next_link(chain: str, envelope: Envelope) -> str:
    """The chain after one more message, hex."""
    link = bytes.fromhex(chain) + bytes.fromhex(envelope.digest) + envelope.signature
    return hashlib.sha256(link).hexdigest()


def read(path: Path, open_: Callable[[Envelope], Message]) -> list[Message]:
    """The messages of a transcript, its chain and all signatures verified.

    Args:
        path: of the file.
        open_: reads an envelope and checks its signature; raises RemoteProtocolError.

    Raises:
        DataError: it cannot be read, is no transcript, or was changed.
    """
    messages: list[Message] = []
    chain = ""
    try:
        for number, (line, _) in enumerate(_lines(path), 1):
            message = open_(line.message.envelope)
            chain = next_link(chain or first_link(message.task), message.envelope)
            if chain != line.chain:
                raise DataError(
                    f"{path}, line {number} does not follow from the lines before it: the file was changed;"
                    " use an unchanged copy"
                )
            messages.append(message)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path") from error
    except RemoteProtocolError as error:
        raise DataError(
            f"{path}, line {len(messages) + 1} is not a validly signed message: {error}"
        ) from error
    if not messages:
        raise DataError(f"{path} is not the transcript of a task")
    return messages


def _lines(path: Path) -> Iterator[tuple[_Line, int]]:
    """The whole lines of a file, and where each ends."""
    end = 0
    with path.open("rb") as file:
        for raw in file:
            if not raw.endswith(b"\n") or end + len(raw) > 2 * MAX_BYTES:
                return
            end += len(raw)
            try:
                yield msgspec.json.decode(raw, type=_Line), end
            except (msgspec.MsgspecError, ValueError) as error:
                raise DataError(f"{path} is not a transcript: {error}") from error


def _make_room(directory: Path) -> None:
    files = sorted(directory.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    for old in files[: max(0, len(files) - KEPT + 1)]:
        old.unlink(missing_ok=True)

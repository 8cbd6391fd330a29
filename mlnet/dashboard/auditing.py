"""The check of a task's transcript, by the program that anybody else would check it with."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import aclosing
from pathlib import Path

import msgspec
from starlette.responses import Response

from mlnet.dashboard.answers import answer
from mlnet.dashboard.files import transcript_pieces
from mlnet.errors import DataError, Overloaded, RemoteProtocolError
from mlnet.sdk.connection import NodeConnection
from mlnet.util import subprocesses

SECONDS = 120.0
"""For one transcript; the longest has 20,000 messages."""
BUSY_SECONDS = 5.0
MAX_MIB = 128
"""Of a transcript: twice what a node writes."""
MAX_BYTES = MAX_MIB << 20
MAX_ERROR = 2000
"""Characters of the program's complaint that are shown."""


class Auditor:
    """Runs ``mlnet-node replay`` on transcripts, one at a time: in a process of its own, so that thousands of
    signatures do not keep a node's event loop waiting.

    Args:
        connection: to the node that has them.
    """

    def __init__(self, connection: NodeConnection) -> None:
        self._connection = connection
        self._busy = False

    async def audit(self, task: str) -> Response:
        """What follows from the messages, as :class:`mlnet.protocol.audit.Audit` in JSON.

        Raises:
            Overloaded: another transcript is checked just now.
            DataError: it cannot be read, or was changed.
        """
        if self._busy:
            raise Overloaded("another transcript is being checked; try again", retry_after=BUSY_SECONDS)
        self._busy = True
        try:
            with tempfile.TemporaryDirectory(prefix="mlnet-audit-") as directory:
                path = Path(directory) / f"{task}.jsonl"
                messages = await self._fetch(task, path)
                found = msgspec.json.decode(await _replay(path), type=dict)
                return answer({**found, "messages": messages})
        finally:
            self._busy = False

    async def _fetch(self, task: str, path: Path) -> int:
        """Write the transcript to a file; the number of its messages."""
        lines = size = 0
        with path.open("wb") as file:
            async with aclosing(transcript_pieces(self._connection, task)) as pieces:
                async for piece in pieces:
                    lines, size = lines + piece.count(b"\n"), size + len(piece)
                    if size > MAX_BYTES:
                        raise DataError(f"the transcript is larger than {MAX_MIB} MiB; use mlnet-node replay")
                    await asyncio.to_thread(file.write, piece)
        return lines


async def _replay(path: Path) -> bytes:
    """What ``mlnet-node replay --json`` prints for a file."""
    pipe = asyncio.subprocess.PIPE
    argv = subprocesses.python("mlnet", "replay", str(path), "--json")
    process = await subprocesses.spawn(argv, env=subprocesses.environment(), stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        raise DataError(f"the check took longer than {SECONDS:.0f} s; use mlnet-node replay") from None
    finally:
        await subprocesses.end(process, 0)
    if process.returncode not in (0, RemoteProtocolError.exit_code):
        raise DataError(err.decode(errors="replace").strip()[:MAX_ERROR] or "the check failed")
    return out

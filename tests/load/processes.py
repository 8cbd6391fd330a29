"""The servers that are loaded, each a process of its own: what they take, and the bare one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load.ghz import ROOT

START_SECONDS = 60.0
END_SECONDS = 10.0
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Server:
    """A process that is loaded.

    Attributes:
        address: ``host:port`` for ghz.
        pid: whose processor time and memory count.
    """

    address: str
    pid: int


def processor_seconds(pid: int) -> float:
    """What a process has taken until now, in all its threads; not its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_bytes(pid: int) -> int:
    """Memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


@asynccontextmanager
async def echo(
    told: Sequence[Mapping[str, Any]],
    directory: Path,
    certificate: Path | None = None,
    key: Path | None = None,
) -> AsyncIterator[tuple[Server, Server]]:
    """The bare server, in the clear and, with a certificate, over TLS.

    Args:
        told: methods and what they are answered, see :mod:`load.echo`.
        directory: for a file.
        certificate: PEM.
        key: PEM.
    """
    file = directory / "answers.json"
    pair = {} if certificate is None else {"certificate": str(certificate), "key": str(key)}
    file.write_text(json.dumps({"methods": told, **pair}))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).with_name("echo.py")), str(file)),
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            clear, secure = map(int, (await process.stdout.readline()).split())
        yield Server(f"127.0.0.1:{clear}", process.pid), Server(f"localhost:{secure}", process.pid)
        process.stdin.close()
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

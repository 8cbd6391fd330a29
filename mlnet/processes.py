"""Child processes that end with their parent, whatever ends it.

A child of ours calls :func:`die_with_parent` first thing. A program that is not ours is started through
:data:`WRAPPER`, a few lines of Python that do the same and then become that program; nothing runs between
fork and exec in a process that has threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
LINE_LIMIT = 1 << 20
"""Bytes of the longest line that is read from a child."""
WRAPPER = (
    "import ctypes, os, sys\n"
    "parent = int(sys.argv[1])\n"
    "if sys.platform == 'linux':\n"
    f"    ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, {int(signal.SIGKILL)})\n"
    "if os.getppid() != parent:\n"
    "    sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when the thread that started it ends; where it cannot (not on Linux),
    do nothing.

    Args:
        parent: process id that must still be the parent's, else this process ends at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        sys.exit(1)


def wrapped(argv: Sequence[str]) -> list[str]:
    """The command that runs a program which is not ours so that it dies with this process.

    Args:
        argv: its absolute path, and its arguments.
    """
    return [sys.executable, "-I", "-S", "-c", WRAPPER, str(os.getpid()), *argv]


async def spawn(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | None = asyncio.subprocess.DEVNULL,
    stdout: int | None = asyncio.subprocess.DEVNULL,
    stderr: int | None = asyncio.subprocess.DEVNULL,
) -> asyncio.subprocess.Process:
    """Start a child in a session of its own, so that a terminal's Ctrl-C reaches this process alone.

    Call it from the main thread: the kernel ties a child to the thread that started it.

    Raises:
        OSError: the program cannot be started.
    """
    return await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env=env,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        limit=LINE_LIMIT,
        start_new_session=True,
    )


async def end(process: asyncio.subprocess.Process, grace: float) -> int:
    """End a child: SIGTERM, and SIGKILL to what is left after so many seconds. Its exit status."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(grace):
                return await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    return await process.wait()

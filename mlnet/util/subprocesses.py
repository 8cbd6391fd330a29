"""Child processes that end with their parent, however it ends.

A child of ours calls :func:`die_with_parent` first thing. Another program is started through :data:`WRAPPER`,
a few lines of Python that do the same and then exec the program. A preexec_fn would be shorter, but runs
between fork and exec, which is not safe in a process with threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""See prctl(2). The setting survives execve of a program that is not set-uid."""
ELSEWHERE = Path("/")
"""The children's working directory: ours may be removed or unmounted."""
LINE_LIMIT = 1 << 20
"""Bytes of the longest line that is read from a child; asyncio's own limit is 64 KiB."""
WRAPPER = (
    "import ctypes, os, sys\n"
    "parent = int(sys.argv[1])\n"
    "if sys.platform == 'linux':\n"
    f"    ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, {int(signal.SIGKILL)})\n"
    "if os.getppid() != parent:\n"
    "    sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


_FOREIGN = re.compile(
    # Variables that torchrun, mpirun and others set for the processes that they start, about how these meet.
    r"(MASTER_|LOCAL_|GROUP_|ROLE_|TORCHELASTIC_|OMPI_|PMI_|PMIX_|GLOO_|TP_|NCCL_)\w+|RANK|WORLD_SIZE"
    # Thread settings: bound threads would sit on the same processors in every trainer of a machine.
    r"|(OMP|GOMP|KMP|MKL|OPENBLAS)_\w+"
    r"|(TORCH|PYTORCH)_\w+"
    # Settings with which an interpreter waits for input, stops at a warning, or writes to our pipes.
    r"|PYTHON(INSPECT|STARTUP|WARNINGS|OPTIMIZE|PROFILEIMPORTTIME|VERBOSE|DEBUG|IOENCODING)"
)


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a Python child: without variables that are meant for other programs and would
    change what it does, and without imports from the current directory.

    Args:
        given: the environment to start from; None for this process's own.
    """
    whole = os.environ if given is None else given
    kept = {name: value for name, value in whole.items() if not _FOREIGN.fullmatch(name)}
    if "PYTHONPATH" in kept:
        # An empty part, such as that of ``$PYTHONPATH:/more``, means the current directory. The child has
        # another one: ours may be removed, and torch cannot be imported then.
        parts = [part for part in kept["PYTHONPATH"].split(os.pathsep) if part]
        with contextlib.suppress(FileNotFoundError):
            parts = [os.path.abspath(part) for part in parts]  # noqa: PTH100 - a string is wanted
        kept["PYTHONPATH"] = os.pathsep.join(parts)
    # Libraries ask for the user's name, and a user id in a container need not have one.
    kept.setdefault("USER", str(os.getuid()))
    return kept


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours with this interpreter. ``-P`` keeps the current directory out of
    ``sys.path``; see :func:`environment`."""
    return [sys.executable, "-P", "-m", module, *arguments]


def die_with_parent(parent: int | None = None) -> None:
    """Make the kernel kill this process when the thread that started it ends. Does nothing on systems other
    than Linux.

    Args:
        parent: the expected parent's process id. If that has ended already, this process ends at once: the
            kernel sends no signal for a parent that ended before the call.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        sys.exit(1)


def wrapped(argv: Sequence[str]) -> list[str]:
    """The command that runs another program so that it dies with this process.

    Args:
        argv: the program's absolute path and its arguments.
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
    """Start a child in a session of its own, so that a terminal's Ctrl-C reaches this process alone, and in a
    directory that nobody removes unless ``cwd`` names another.

    Call it from the main thread: the death signal follows the thread that started the child, not the process.

    Raises:
        OSError: the program cannot be started.
    """
    return await asyncio.create_subprocess_exec(
        *argv,
        cwd=ELSEWHERE if cwd is None else cwd,
        env=env,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        limit=LINE_LIMIT,
        start_new_session=True,
    )


def how_it_ended(status: int) -> str:
    """An exit status of asyncio, for people. SIGKILL mostly comes from the kernel's out-of-memory killer."""
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"killed by {name}" + (": out of memory?" if -status == signal.SIGKILL else "")


async def end(process: asyncio.subprocess.Process, grace: float) -> int:
    """End a child with SIGTERM, and with SIGKILL after ``grace`` seconds; return its exit status."""
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

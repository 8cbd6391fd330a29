"""The trainer: ``python -m mlnet.training.worker PARENT [MEMORY]``, started by :mod:`mlnet.training.process`.

It imports torch, reports that it is ready, reads one job from standard input, executes it and ends. Standard
output holds the lines of :mod:`mlnet.training.ipc` and nothing else.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import NoReturn

from mlnet.training import ipc
from mlnet.util.subprocesses import die_with_parent


def main(parent: int, memory: int | None) -> NoReturn:
    """Execute the job that arrives on standard input, and end the process.

    Args:
        parent: id of the process with which this one ends.
        memory: bytes that it may allocate beyond what it needs to be ready.
    """
    die_with_parent(parent)
    # Ctrl-C in a terminal reaches the whole process group; the parent decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines = _take_stdout()

    def tell(event: ipc.Event) -> None:
        os.write(lines, ipc.encode(event) + b"\n")

    # Imported here, after die_with_parent: it imports torch, which takes longer than some parents live.
    from mlnet.training.child import carry_out

    if memory is not None:
        _limit_memory(memory)
    tell(ipc.ChildReady())
    line = sys.stdin.buffer.readline(ipc.MAX_LINE)
    if not line:
        os._exit(0)
    outcome, code = carry_out(line, tell)
    tell(outcome)
    sys.stderr.flush()
    # Without destructors: those of torch's process groups may wait for threads that no longer run.
    os._exit(code)


def _take_stdout() -> int:
    """A descriptor of the real standard output. Everything else that writes to it, such as a library's print,
    goes to standard error from now on and cannot break the protocol."""
    lines = os.dup(1)
    os.dup2(2, 1)
    return lines


def _limit_memory(size: int) -> None:
    """Let the process allocate ``size`` bytes beyond what it has now.

    The limit is RLIMIT_DATA, on writable private memory (setrlimit(2)): torch and its threads reserve address
    space that they never use, so RLIMIT_AS would be reached long before the memory is.
    """
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    limit = pages * resource.getpagesize() + size
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)

"""A lease on a file: while it is held, nobody can write to the file or shorten it (Linux, ``fcntl(2)``).

A mapping of a file that becomes shorter ends the process with SIGBUS, so only a file under lease is mapped.
A process that opens it for writing waits until the lease is released, at most 45 seconds
(``/proc/sys/fs/lease-break-time``).
"""

from __future__ import annotations

import contextlib
import fcntl
import signal


class Lease:
    """A read lease on an open file, if it can be had.

    It can where the file is the caller's and nobody has it open for writing.

    Attributes:
        taken: whether it was, and is not released.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self.taken = False
        with contextlib.suppress(AttributeError, OSError):  # another system, another owner, a writer
            # A contest also sends a signal: one that does nothing instead of SIGIO, which ends the process.
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            self.taken = True

    @property
    def contested(self) -> bool:
        """Whether someone waits for its release."""
        return fcntl.fcntl(self._file, fcntl.F_GETLEASE) != fcntl.F_RDLCK

    def release(self) -> None:
        """Give it back, when nothing of the file is mapped any more."""
        if self.taken:
            self.taken = False
            fcntl.fcntl(self._file, fcntl.F_SETLEASE, fcntl.F_UNLCK)

"""Time for the drivers: wall-clock milliseconds that never go back."""

from __future__ import annotations

import time

_wall = time.time_ns() - time.monotonic_ns()


def now() -> int:
    """Milliseconds since 1970, wall clock at the start of the process, monotonic since."""
    return (_wall + time.monotonic_ns()) // 1_000_000

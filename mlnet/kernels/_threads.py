"""How many threads a kernel that lets go of the GIL may use."""

from __future__ import annotations

import os

_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

THREADS = min(_CORES, 8)
"""As many as there are cores, within reason: a few saturate the memory."""

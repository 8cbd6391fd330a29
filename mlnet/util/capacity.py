"""The processors and the memory that this process may use: the machine's, within CPU affinity, control groups
(versions 1 and 2) and resource limits.

os.cpu_count() and torch see the whole machine: in a container with one processor of 64 they start 64 threads.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def processors(root: Path = ROOT) -> int:
    """Processors that this process may use at a time, at least 1. A fraction counts as one more.

    Args:
        root: directory in which ``proc`` and ``sys`` lie; for tests.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups(root, "cpu"):
        quota, period = _quota(group)
        if quota > 0 and period > 0:
            available = min(available, math.ceil(quota / period))
    return max(1, available)


def memory(root: Path = ROOT) -> int:
    """Bytes of memory that this process may use.

    Args:
        root: as above.
    """
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            limit = _number(_read(group / name))
            if limit > 0:
                available = min(available, limit)
    # What ulimit -v and -d set; an allocation beyond them fails although the machine has memory.
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            available = min(available, limit)
    return available


def _quota(group: Path) -> tuple[int, int]:
    """Microseconds that a group may run in a period, and the period; not positive without a limit."""
    words = _read(group / "cpu.max").split()
    if len(words) == 2:
        return _number(words[0]), _number(words[1])
    return _number(_read(group / "cpu.cfs_quota_us")), _number(_read(group / "cpu.cfs_period_us"))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Directories of this process's control group and of those above it, all of which bound a controller.

    In a container the path in ``/proc`` may be the host's and not exist here. Then those above it are left,
    of which the topmost is the container's own.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        names = controllers.split(",")
        if number == "0" and not controllers:
            mounts = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif controller in names:
            mounts = [root / "sys/fs/cgroup" / controller, root / "sys/fs/cgroup" / controllers]
        else:
            continue
        group = Path(path.lstrip("/"))
        if ".." in group.parts:
            group = Path()
        for mount in mounts:
            for below in (group, *group.parents):
                yield mount / below


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int:
    """A decimal number; -1 for ``max`` and any other text."""
    return int(text) if text.isascii() and text.isdecimal() else -1

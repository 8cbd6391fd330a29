"""How many processors and how much memory this process may use: what the machine has, less what affinity,
control groups (version 1 and 2) and resource limits leave of it."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def processors(root: Path = ROOT) -> int:
    """Processors that this process may use at a time, at least 1; a share of one counts as one.

    Args:
        root: where ``proc`` and ``sys`` are.
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
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            available = min(available, limit)
    return available


def _quota(group: Path) -> tuple[int, int]:
    """Microseconds that a group may run in a period, and the period; zeros without a limit."""
    words = _read(group / "cpu.max").split()
    if len(words) == 2:
        return _number(words[0]), _number(words[1])
    return _number(_read(group / "cpu.cfs_quota_us")), _number(_read(group / "cpu.cfs_period_us"))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Directories of the control groups of this process that may bound a controller: its own and those above.

    In a container the path in ``/proc`` may be the host's, and missing here: then those above it are left, of
    which the topmost is the container's own.
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
    """A number; -1 for ``max`` and what is none."""
    return int(text) if text.isascii() and text.isdecimal() else -1

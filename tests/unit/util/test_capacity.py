"""What control groups and limits leave of a machine."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlnet.util import capacity

GIB = 1 << 30


def machine(root: Path, files: Mapping[str, str]) -> Path:
    """A tree with these files of ``proc`` and ``sys``."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 GiB with 16 processors."""
    pages = {"SC_PHYS_PAGES": 64 * GIB // 4096, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("os.sysconf", pages.__getitem__)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))


@pytest.mark.parametrize(
    ("files", "processors", "memory"),
    [
        ({}, 16, 64 * GIB),
        ({"proc/self/cgroup": "0::/\n"}, 16, 64 * GIB),
        # version 2, a container's own namespace
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/cpu.max": "50000 100000\n",
                "sys/fs/cgroup/memory.max": f"{GIB}\n",
            },
            1,
            GIB,
        ),
        # version 2, a service whose slice is tighter than itself
        (
            {
                "proc/self/cgroup": "0::/a.slice/b.service\n",
                "sys/fs/cgroup/a.slice/b.service/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a.slice/b.service/memory.max": "max\n",
                "sys/fs/cgroup/a.slice/cpu.max": "250000 100000\n",
                "sys/fs/cgroup/a.slice/memory.high": f"{2 * GIB}\n",
            },
            3,
            2 * GIB,
        ),
        # version 2, the host's path, which the container does not see
        (
            {
                "proc/self/cgroup": "0::/../../docker/abc\n",
                "sys/fs/cgroup/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
            },
            4,
            4 * GIB,
        ),
        # version 1
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{3 * GIB}\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            2,
            3 * GIB,
        ),
        # version 1 without limits
        (
            {
                "proc/self/cgroup": "5:cpu:/\n4:memory:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            16,
            64 * GIB,
        ),
        # nonsense
        (
            {
                "proc/self/cgroup": "0:\n:::\nx\n0::/\n",
                "sys/fs/cgroup/cpu.max": "zero 0\n",
                "sys/fs/cgroup/memory.max": "\n",
            },
            16,
            64 * GIB,
        ),
    ],
)
def test_the_tightest_bound_holds(
    tmp_path: Path, files: dict[str, str], processors: int, memory: int
) -> None:
    root = machine(tmp_path, files)
    assert (capacity.processors(root), capacity.memory(root)) == (processors, memory)


def test_affinity_and_resource_limits_hold_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3})
    monkeypatch.setattr(
        "resource.getrlimit",
        lambda kind: (8 * GIB, 8 * GIB) if kind == resource.RLIMIT_AS else (resource.RLIM_INFINITY,) * 2,
    )
    assert (capacity.processors(tmp_path), capacity.memory(tmp_path)) == (1, 8 * GIB)

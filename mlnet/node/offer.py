"""Checks what a node offers before it offers it: room on the disk, and ports for Redis servers.

Otherwise the first task would find out, minutes later and at the cost of all its members.
"""

from __future__ import annotations

import logging

from mlnet import store
from mlnet.driver.options import NodeOptions
from mlnet.errors import PortInUse, StorageError
from mlnet.util import files

logger = logging.getLogger(__name__)
LEAST_DISK = 64 << 20
"""Bytes without which a node is of no use to any task."""


def check(options: NodeOptions) -> None:
    """Make sure that the machine has what the options promise; warn about what is scarce.

    Raises:
        PortInUse: none of the ports for Redis servers can be used.
        StorageError: the data directory has no room.
    """
    check_ports(options.redis_ports)
    free = check_room(options)
    if free < options.disk:
        logger.warning(
            "%s has %d MiB free, less than the %d MiB that tasks may take: free some space, or give --disk",
            *(options.data_dir, free >> 20, options.disk >> 20),
        )


def check_room(options: NodeOptions) -> int:
    """Bytes that are free in the data directory; asked again before each task is answered.

    Raises:
        StorageError: there is no room for any task.
    """
    with files.written_to(options.data_dir, "choose another with --data-dir"):
        free = files.free(options.data_dir)
    if free < LEAST_DISK:
        raise StorageError(
            f"{options.data_dir} has {free >> 20} MiB free, but a node needs at least"
            f" {LEAST_DISK >> 20} MiB; free some space, or choose another with --data-dir"
        )
    return free


def check_ports(ports: tuple[int, int] | None) -> None:
    """Raise PortInUse if no Redis server could listen at any of these ports."""
    if ports is not None and next(store.free_ports(None, ports), None) is None:
        raise PortInUse(
            f"none of the ports {ports[0]}-{ports[1]} can be used for a task's Redis server: "
            "they are in use, or this user may not use them; choose others with --redis-ports"
        )

"""Puts TasksService together for a node that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mlnet.node.server import NodeServer
from mlnet.service.tasks.asking import Rules
from mlnet.service.tasks.registry import Registry, TaskBounds
from mlnet.service.tasks.servicer import TasksService


@asynccontextmanager
async def hosting(
    node: NodeServer, rules: Rules | None = None, bounds: TaskBounds | None = None
) -> AsyncIterator[TasksService]:
    """Carry the tasks of a node as client for as long as the context lasts: those that a former process has
    left, and those to come.

    Args:
        node: it runs.
        rules: what callers may name on this machine.
        bounds: how much the node carries as client.

    Raises:
        StorageError: what is kept of former tasks cannot be read.
    """
    registry = Registry(node.client, node.client_state, bounds)
    service = TasksService(registry, rules)
    node.listeners.append(registry.notice)
    try:
        await registry.start()
        yield service
    finally:
        node.listeners.remove(registry.notice)
        service.close()
        await registry.stop()

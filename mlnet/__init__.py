"""A peer-to-peer network that trains models: its public names, each loaded when it is first used.

Programs begin with :class:`mlnet.Client` or :class:`mlnet.AsyncClient`. The command line is
:mod:`mlnet.cli.app`, a node is :mod:`mlnet.node.server`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlnet.errors import MlnetError
    from mlnet.sdk.async_client import AsyncClient, AsyncTask
    from mlnet.sdk.client import Client, Task
    from mlnet.sdk.events import TaskEvent
    from mlnet.sdk.records import TaskState
    from mlnet.sdk.result import AsyncResult, Result
    from mlnet.training.model import Model, load_model

__version__ = "0.2.0.dev0"
__all__ = [
    "AsyncClient",
    "AsyncResult",
    "AsyncTask",
    "Client",
    "MlnetError",
    "Model",
    "Result",
    "Task",
    "TaskEvent",
    "TaskState",
    "load_model",
]

# The imports above, for when the program runs: torch and grpc are too heavy for whoever does not need them.
_HOMES = {
    "AsyncClient": "mlnet.sdk.async_client",
    "AsyncResult": "mlnet.sdk.result",
    "AsyncTask": "mlnet.sdk.async_client",
    "Client": "mlnet.sdk.client",
    "MlnetError": "mlnet.errors",
    "Model": "mlnet.training.model",
    "Result": "mlnet.sdk.result",
    "Task": "mlnet.sdk.client",
    "TaskEvent": "mlnet.sdk.events",
    "TaskState": "mlnet.sdk.records",
    "load_model": "mlnet.training.model",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'mlnet' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""A peer-to-peer network that trains models: its public names, each loaded when it is first used.

Programs begin with :func:`mlnet.connected`. The command line is :mod:`mlnet.cli.app`, a node is
:mod:`mlnet.node.server`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlnet.client.connecting import connected
    from mlnet.client.result import Result
    from mlnet.client.submission import Submission
    from mlnet.client.task_client import TaskClient
    from mlnet.driver.messenger import WireOptions
    from mlnet.driver.options import ClientOptions
    from mlnet.errors import MlnetError
    from mlnet.training.model import Model, load_model

__version__ = "0.2.0.dev0"
__all__ = [
    "ClientOptions",
    "MlnetError",
    "Model",
    "Result",
    "Submission",
    "TaskClient",
    "WireOptions",
    "connected",
    "load_model",
]

# The imports above, for when the program runs: torch and libp2p are too heavy for whoever does not need them.
_HOMES = {
    "ClientOptions": "mlnet.driver.options",
    "MlnetError": "mlnet.errors",
    "Model": "mlnet.training.model",
    "Result": "mlnet.client.result",
    "Submission": "mlnet.client.submission",
    "TaskClient": "mlnet.client.task_client",
    "WireOptions": "mlnet.driver.messenger",
    "connected": "mlnet.client.connecting",
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

"""DistributedDataParallel without torch's compiler, which it imports only to ask whether it is in use.

That import takes more processor time than torch itself, and a trainer never compiles. In a version of torch
without the places that are bypassed here, the import happens and everything works as usual.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

COMPILER = "torch._dynamo"


def replicate(model: nn.Module) -> DistributedDataParallel:
    """Wrap a model so that its gradients are averaged over the ranks of the default process group.

    Raises:
        RuntimeError: from torch; the ranks hold different models, or one of them is gone.
    """
    _mark_as_uncompiled(getattr(DistributedDataParallel, "_inside_ddp_forward", None))
    with _compiler_not_loaded():
        return DistributedDataParallel(model)


def _mark_as_uncompiled(function: Callable[..., Any] | None) -> None:
    """Mark a function as excluded from compilation, so that torch's decorator does not import the compiler to
    do it."""
    while (wrapped := getattr(function, "__wrapped__", None)) is not None:
        function = wrapped
    if function is not None and not hasattr(function, "__dynamo_disable"):
        function.__dict__["__dynamo_disable"] = function


@contextmanager
def _compiler_not_loaded() -> Iterator[None]:
    """Put a stand-in for the compiler in place, which answers the constructor's one question with the
    default."""
    if COMPILER in sys.modules:
        yield
        return
    utils = SimpleNamespace(get_optimize_ddp_mode=lambda: "ddp_optimizer")
    torch.__dict__["_dynamo"] = SimpleNamespace(utils=utils)
    try:
        yield
    finally:
        torch.__dict__.pop("_dynamo", None)

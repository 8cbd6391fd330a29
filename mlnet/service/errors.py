"""Errors that leave a method of the API become statuses, with details that a program can read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
from grpc_status import rpc_status

from mlnet.errors import MlnetError
from mlnet.status.details import status_of

logger = logging.getLogger(__name__)
UNEXPECTED = "an unexpected error, which the node's log describes"
"""What a caller is told of an exception that is none of ours: its text may hold what is not for him."""


async def refuse(context: Any, error: MlnetError, *, code: grpc.StatusCode | None = None) -> NoReturn:
    """End a call with an error.

    Args:
        context: of the call.
        error: its kind decides on the code and the details, see :mod:`mlnet.status.codes`.
        code: in place of the one for its kind.
    """
    status: Any = rpc_status.to_status(status_of(error, code))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("a call goes on after it was ended")


@asynccontextmanager
async def reported(method: str, context: Any) -> AsyncIterator[None]:
    """Turn what a method raises into the status of its call.

    Args:
        method: full name, for the log.
        context: of the call.
    """
    try:
        yield
    except MlnetError as error:
        await refuse(context, error)
    except (asyncio.CancelledError, grpc.aio.AbortError, grpc.aio.BaseError):
        raise
    except Exception:
        logger.exception("%s failed", method)
        await context.abort(grpc.StatusCode.INTERNAL, UNEXPECTED)

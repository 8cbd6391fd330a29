"""The end of a call with an error, with details that a program can read.

A method of the API may as well raise a kind of :mod:`mlnet.errors`: what goes round every call
(:mod:`mlnet.service.bounds`) ends it so.
"""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
from grpc_status import rpc_status

from mlnet.errors import MlnetError
from mlnet.status.details import status_of

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

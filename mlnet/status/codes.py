"""Which gRPC status code each kind of :mod:`mlnet.errors` has, and when another attempt may succeed."""

from __future__ import annotations

import grpc

from mlnet import errors
from mlnet.errors import MlnetError, ServiceError

CODES: dict[type[MlnetError], grpc.StatusCode] = {
    MlnetError: grpc.StatusCode.UNKNOWN,
    # What the caller has written is wrong.
    errors.ConfigError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.TaskError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ProtocolError: grpc.StatusCode.INVALID_ARGUMENT,
    # The call was right; something on the node's machine has to be put in order first.
    errors.PortInUse: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DataError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoRedisBinary: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StorageError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.HashMismatch: grpc.StatusCode.DATA_LOSS,
    # It may be different next time.
    errors.TransportError: grpc.StatusCode.UNAVAILABLE,
    errors.StoreError: grpc.StatusCode.UNAVAILABLE,
    # A new task may end differently. Not CANCELLED: that is for the caller's own cancellation of the call.
    errors.TrainingError: grpc.StatusCode.ABORTED,
    errors.TaskFailed: grpc.StatusCode.ABORTED,
    errors.TaskCancelled: grpc.StatusCode.ABORTED,
    errors.LocalProtocolError: grpc.StatusCode.INTERNAL,
}
"""By kind; others have the code of the kind that they derive from. A ServiceError names its own."""
RETRY_SECONDS = 1.0
"""After which the same call may succeed, where nothing says better."""
_KINDS = {kind.__name__: kind for kind in errors.every_kind()}
# For answers without details: of other servers, proxies and grpc itself.
_BARE: dict[grpc.StatusCode, type[MlnetError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.TransportError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.TransportError,
    grpc.StatusCode.CANCELLED: errors.TransportError,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
}


def code_of(error: MlnetError) -> grpc.StatusCode:
    """The status code for an error."""
    if isinstance(error, ServiceError):
        return code_named(error.status)
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def code_named(name: str) -> grpc.StatusCode:
    """The status code with this name; UNKNOWN where there is none."""
    return grpc.StatusCode.__members__.get(name, grpc.StatusCode.UNKNOWN)


def retry_of(error: MlnetError, code: grpc.StatusCode) -> float | None:
    """Seconds after which the same call may succeed; None where it would end the same."""
    if isinstance(error, ServiceError) and error.retry_after is not None:
        return error.retry_after
    passing = code is grpc.StatusCode.UNAVAILABLE or isinstance(error, errors.Overloaded)
    return RETRY_SECONDS if passing else None


def kind_named(name: str) -> type[MlnetError] | None:
    """The kind of error with this name; None where this version knows none."""
    return _KINDS.get(name)


def kind_of(code: grpc.StatusCode) -> type[MlnetError]:
    """The kind for an answer that says nothing but its code."""
    return _BARE.get(code, ServiceError)

"""What a call of TasksService is refused for, where no kind of error of mlnet says it."""

from __future__ import annotations

import grpc

from mlnet.errors import MlnetError


class Refused(MlnetError):
    """A call cannot be answered.

    Attributes:
        status: the code that the caller gets.
        retry_after: seconds after which another attempt may succeed; None where it would not.
    """

    def __init__(self, status: grpc.StatusCode, message: str, *, retry_after: float | None = None) -> None:
        self.status, self.retry_after = status, retry_after
        super().__init__(message)


def not_found(message: str) -> Refused:
    """There is no such thing."""
    return Refused(grpc.StatusCode.NOT_FOUND, message)


def invalid(message: str) -> Refused:
    """The request makes no sense."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, message)


def precondition(message: str) -> Refused:
    """The request cannot be met as things are."""
    return Refused(grpc.StatusCode.FAILED_PRECONDITION, message)


def out_of_range(message: str) -> Refused:
    """What is wanted is not there any more, or not yet."""
    return Refused(grpc.StatusCode.OUT_OF_RANGE, message)


def exhausted(message: str, retry_after: float) -> Refused:
    """There is too much to do already."""
    return Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, message, retry_after=retry_after)

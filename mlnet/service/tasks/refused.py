"""What a call of TasksService is refused for, where no kind of error of mlnet says it."""

from __future__ import annotations

from mlnet.errors import ServiceError


def invalid(message: str) -> ServiceError:
    """The request makes no sense."""
    return ServiceError(message, status="INVALID_ARGUMENT")


def precondition(message: str) -> ServiceError:
    """The request cannot be met as things are."""
    return ServiceError(message, status="FAILED_PRECONDITION")


def out_of_range(message: str) -> ServiceError:
    """What is wanted is not there any more, or not yet."""
    return ServiceError(message, status="OUT_OF_RANGE")


def unavailable(message: str) -> ServiceError:
    """The node cannot answer now."""
    return ServiceError(message, status="UNAVAILABLE")

"""What is read from requests and written as answers: JSON within bounds, and errors as HTTP statuses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mlnet.errors import MlnetError, RemoteProtocolError, ServiceError, TaskError
from mlnet.status.codes import code_of, retry_of

T = TypeVar("T")
JSON = "application/json"
MAX_BODY = 256 << 10
"""Bytes of a request: a definition of at most 64 KiB, escaped."""
BODY_SECONDS = 30.0
STATUSES = {
    "INVALID_ARGUMENT": HTTPStatus.BAD_REQUEST,
    "OUT_OF_RANGE": HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    # 401 is about the page's own token; here the page's server lacks one.
    "UNAUTHENTICATED": HTTPStatus.BAD_GATEWAY,
    "PERMISSION_DENIED": HTTPStatus.FORBIDDEN,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "ALREADY_EXISTS": HTTPStatus.CONFLICT,
    "ABORTED": HTTPStatus.CONFLICT,
    "FAILED_PRECONDITION": HTTPStatus.CONFLICT,
    "RESOURCE_EXHAUSTED": HTTPStatus.TOO_MANY_REQUESTS,
    "UNIMPLEMENTED": HTTPStatus.NOT_IMPLEMENTED,
    "UNAVAILABLE": HTTPStatus.SERVICE_UNAVAILABLE,
    "DEADLINE_EXCEEDED": HTTPStatus.GATEWAY_TIMEOUT,
}
"""By the gRPC code of an error; 502 for others."""


class BadRequest(ServiceError):
    """A request to the page's server is wrong."""

    status = "INVALID_ARGUMENT"


def answer(value: Any, status: int = HTTPStatus.OK) -> Response:
    """A value as JSON. Times are in ISO 8601, durations in seconds; what is not a finite number is null."""
    return Response(msgspec.json.encode(value), status, {"cache-control": "no-store"}, JSON)


def problem(message: str, status: int, headers: Mapping[str, str] | None = None, **more: object) -> Response:
    """An error as JSON."""
    body = msgspec.json.encode({"message": message, "status": int(status), **more})
    return Response(body, status, {"cache-control": "no-store", **(headers or {})}, JSON)


def described(error: MlnetError) -> tuple[HTTPStatus, dict[str, Any]]:
    """The status of an error, and what the page shows of it."""
    code = code_of(error)
    status = STATUSES.get(code.name, HTTPStatus.BAD_GATEWAY)
    if isinstance(error, RemoteProtocolError):
        status = HTTPStatus.BAD_GATEWAY  # the node's answer makes no sense; the request did
    body: dict[str, Any] = {"message": str(error), "status": int(status), "code": type(error).__name__}
    if isinstance(error, TaskError):
        body["problems"] = [
            {"path": one.path, "problem": one.problem, "fix": one.fix, "line": one.line, "column": one.column}
            for one in error.errors
        ]
    if (delay := retry_of(error, code)) is not None:
        body["retry_after"] = delay
    return status, body


async def failed(_: Request, error: Exception) -> Response:
    """The answer when a route raised one of our errors."""
    assert isinstance(error, MlnetError)  # noqa: S101 - it is registered for these alone
    status, body = described(error)
    delay = body.get("retry_after")
    headers = {"retry-after": str(max(1, round(delay)))} if delay is not None else None
    return problem(body.pop("message"), status, headers, **{k: v for k, v in body.items() if k != "status"})


async def read(request: Request, kind: type[T]) -> T:
    """The body of a request, as JSON of a type.

    Raises:
        BadRequest: it is not that, too long, or too slow.
    """
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                data += chunk
                if len(data) > MAX_BODY:
                    raise BadRequest(f"the request is longer than {MAX_BODY >> 10} KiB")
        return msgspec.json.decode(data, type=kind)
    except TimeoutError:
        raise BadRequest("the request was not complete in time; send it again") from None
    except ClientDisconnect:
        raise BadRequest("the request broke off") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRequest(f"the request is not what this page sends: {error}") from None

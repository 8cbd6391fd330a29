"""An error as a ``google.rpc.Status``, and what a caller makes of it again."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from mlnet.errors import MlnetError, PeerUnreachable, ServiceError, TaskError, TaskProblem
from mlnet.status import codes
from mlnet.v1 import tasks_pb2

DOMAIN = "mlnet"
"""Of ErrorInfo: whose reasons these are."""
MAX_MESSAGE = 1024
"""Bytes of the longest message of a status. It travels twice: in the trailer that every stub shows, and in
the details."""
MAX_DETAILS = 4096
"""Bytes of the details. All headers of an answer together may have 8 KiB in most implementations; what is
larger arrives as an error of the transport, without any reason. Base64 makes a third more of it."""
_MARK = " [...]"


def status_of(error: MlnetError, code: grpc.StatusCode | None = None) -> status_pb2.Status:
    """An error as a status with details: ErrorInfo, BadRequest, RetryInfo.

    Args:
        error: what happened.
        code: in place of the one for its kind.
    """
    code = code or codes.code_of(error)
    status = status_pb2.Status(code=code.value[0], message=_clipped(str(error), MAX_MESSAGE))
    info = error_details_pb2.ErrorInfo(reason=type(error).__name__, domain=DOMAIN)
    status.details.append(_packed(info))
    delay = codes.retry_of(error, code)
    if delay is not None:
        wait = duration_pb2.Duration()
        wait.FromNanoseconds(int(delay * 1e9))
        status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=wait)))
    if isinstance(error, PeerUnreachable):
        info.metadata["why"] = _clipped(error.why, MAX_MESSAGE)
    if isinstance(error, TaskError):
        info.metadata["file"] = _clipped(error.file, MAX_MESSAGE)
        _add_problems(status, info, error.errors)
    status.details[0].CopyFrom(_packed(info))
    return status


def _add_problems(
    status: status_pb2.Status, info: error_details_pb2.ErrorInfo, problems: tuple[TaskProblem, ...]
) -> None:
    """Add the problems of a definition twice: as BadRequest, which every tool shows, and as
    ``mlnet.v1.Problem``, which says where they are. Of too many, the first ones: those are to be mended
    first, and ``Validate`` returns all."""
    request = error_details_pb2.BadRequest()
    room = MAX_DETAILS - status.ByteSize() - info.ByteSize()
    exact: list[any_pb2.Any] = []
    for problem in problems:
        words = plain(problem.problem) + (f" ({plain(problem.fix)})" if problem.fix else "")
        violation = error_details_pb2.BadRequest.FieldViolation(field=plain(problem.path), description=words)
        detail = _packed(problem_of(problem))
        room -= violation.ByteSize() + detail.ByteSize() + 16
        if room < 0:
            break
        request.field_violations.append(violation)
        exact.append(detail)
    info.metadata["problems"] = str(len(problems))
    status.details.append(_packed(request))
    status.details.extend(exact)


def problem_of(problem: TaskProblem) -> tasks_pb2.Problem:
    """A problem of a definition as the API states it."""
    return tasks_pb2.Problem(
        path=plain(problem.path),
        problem=plain(problem.problem),
        fix=plain(problem.fix),
        line=problem.line,
        column=problem.column,
        certain=problem.certain,
    )


def task_problem(problem: tasks_pb2.Problem) -> TaskProblem:
    """What :func:`problem_of` was made of."""
    return TaskProblem(
        problem.path, problem.problem, problem.fix, problem.line, problem.column, problem.certain
    )


def error_of(failure: grpc.RpcError) -> MlnetError:
    """The error that a failed call stands for: of the kind that the node raised, with its attributes, as far
    as this version knows it.

    Args:
        failure: what a stub raised, of ``grpc`` or of ``grpc.aio``.
    """
    call: Any = failure
    code = call.code() if callable(getattr(call, "code", None)) else grpc.StatusCode.UNKNOWN
    message = (call.details() if callable(getattr(call, "details", None)) else "") or ""
    details = _Details(_sent(call))
    kind = codes.kind_named(details.info.reason) if details.info.domain == DOMAIN else None
    if kind is None:
        kind = codes.kind_of(code)
        message = message or f"the call ended with {code.name}"
    return details.error(kind, code, message)


def _sent(call: Any) -> status_pb2.Status | None:
    """The status among the trailers; None where there is none, or none that can be read."""
    try:
        return rpc_status.from_call(call)
    except (AttributeError, DecodeError, ValueError):
        return None


class _Details:
    """The details of a status, by kind; empty ones in place of those that are missing."""

    def __init__(self, status: status_pb2.Status | None) -> None:
        self.info = error_details_pb2.ErrorInfo()
        self.problems: list[TaskProblem] = []
        self.retry_after: float | None = None
        for detail in status.details if status is not None else ():
            retry, problem = error_details_pb2.RetryInfo(), tasks_pb2.Problem()
            try:
                if detail.Unpack(retry):
                    self.retry_after = retry.retry_delay.ToNanoseconds() / 1e9
                elif detail.Unpack(problem):
                    self.problems.append(task_problem(problem))
                else:
                    detail.Unpack(self.info)
            except DecodeError:
                continue

    def error(self, kind: type[MlnetError], code: grpc.StatusCode, message: str) -> MlnetError:
        """The error itself."""
        metadata = self.info.metadata
        if issubclass(kind, ServiceError):
            return kind(message, status=code.name, retry_after=self.retry_after)
        if issubclass(kind, PeerUnreachable):
            return kind(message, metadata.get("why", ""))
        if issubclass(kind, TaskError):
            return kind.of(self.problems or [TaskProblem("", message)], metadata.get("file", ""))
        return kind(message)


def plain(text: str) -> str:
    """A text that protobuf takes: what is not UTF-8 is shown with escapes."""
    return text.encode(errors="backslashreplace").decode()


def _clipped(text: str, most: int) -> str:
    data = plain(text).encode()
    return data.decode() if len(data) <= most else data[: most - len(_MARK)].decode(errors="ignore") + _MARK


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed

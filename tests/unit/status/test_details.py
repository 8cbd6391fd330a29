"""Every kind of error as a status, and back."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from mlnet import errors
from mlnet.errors import MlnetError, PeerUnreachable, ServiceError, TaskError, TaskProblem
from mlnet.status import codes
from mlnet.status.details import MAX_DETAILS, MAX_MESSAGE, error_of, status_of

PROBLEMS = (
    TaskProblem("ml.optimizer.epochs", "is 0", "write a number from 1 on", 7, 13, certain=True),
    TaskProblem("", "the text ends too soon", line=12),
)


class Failure(grpc.RpcError):
    """What a stub raises: code, text and trailers."""

    def __init__(self, code: grpc.StatusCode, details: str, trailers: Any = ()) -> None:
        self._sent = code, details, trailers

    def code(self) -> grpc.StatusCode:
        return self._sent[0]

    def details(self) -> str:
        return self._sent[1]

    def trailing_metadata(self) -> Any:
        return self._sent[2]


def carried(error: MlnetError, code: grpc.StatusCode | None = None) -> Failure:
    sent: Any = rpc_status.to_status(status_of(error, code))
    return Failure(sent.code, sent.details, sent.trailing_metadata)


def example(kind: type[MlnetError]) -> MlnetError:
    if issubclass(kind, TaskError):
        return kind.of(PROBLEMS, "task.yaml")
    if issubclass(kind, PeerUnreachable):
        return kind("no peer answers", "192.0.2.1: refused")
    if issubclass(kind, ServiceError):
        return kind("not now", retry_after=2.5)
    return kind("it went wrong")


@pytest.mark.parametrize("kind", errors.every_kind(), ids=lambda kind: kind.__name__)
def test_every_kind_of_error_arrives_as_it_was_raised(kind: type[MlnetError]) -> None:
    raised = example(kind)
    arrived = error_of(carried(raised))
    assert type(arrived) is kind
    assert str(arrived) == str(raised)
    assert vars(arrived) == vars(raised) | (
        {"status": arrived.status} if isinstance(arrived, ServiceError) else {}
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.MlnetError(""), "UNKNOWN"),
        (errors.ConfigError(""), "INVALID_ARGUMENT"),
        (errors.PortInUse(""), "FAILED_PRECONDITION"),
        (errors.StorageError(""), "RESOURCE_EXHAUSTED"),
        (errors.TaskError("", "wrong"), "INVALID_ARGUMENT"),
        (errors.LabelError(""), "FAILED_PRECONDITION"),
        (errors.HashMismatch(""), "DATA_LOSS"),
        (errors.PeerUnreachable(""), "UNAVAILABLE"),
        (errors.NoCommittee(""), "ABORTED"),
        (errors.TaskCancelled(""), "ABORTED"),
        (errors.RemoteProtocolError(""), "INVALID_ARGUMENT"),
        (errors.LocalProtocolError(""), "INTERNAL"),
        (errors.NotFound(""), "NOT_FOUND"),
        (errors.Overloaded(""), "RESOURCE_EXHAUSTED"),
        (errors.Unauthenticated(""), "UNAUTHENTICATED"),
        (errors.ServiceError("", status="ALREADY_EXISTS"), "ALREADY_EXISTS"),
        (errors.ServiceError("", status="NO_SUCH_CODE"), "UNKNOWN"),
    ],
)
def test_the_code_says_what_a_caller_can_do(error: MlnetError, code: str) -> None:
    assert codes.code_of(error).name == code


def test_a_caller_may_be_told_another_code() -> None:
    failure = carried(errors.ConfigError("not while it trains"), grpc.StatusCode.FAILED_PRECONDITION)
    assert failure.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert isinstance(error_of(failure), errors.ConfigError)


def test_stock_tools_see_what_is_wrong_and_what_to_write() -> None:
    request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(request) for detail in status_of(TaskError.of(PROBLEMS)).details)
    assert [(violation.field, violation.description) for violation in request.field_violations] == [
        ("ml.optimizer.epochs", "is 0 (write a number from 1 on)"),
        ("", "the text ends too soon"),
    ]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.TransportError(""), codes.RETRY_SECONDS),
        (errors.Overloaded(""), codes.RETRY_SECONDS),
        (errors.Overloaded("", retry_after=0.25), 0.25),
        (errors.NotFound(""), None),
        (errors.StorageError(""), None),
    ],
)
def test_whoever_may_try_again_is_told_when(error: MlnetError, seconds: float | None) -> None:
    retry = error_details_pb2.RetryInfo()
    found = any(detail.Unpack(retry) for detail in status_of(error).details)
    assert (retry.retry_delay.ToNanoseconds() / 1e9 if found else None) == seconds


def test_a_status_fits_into_the_headers_of_an_answer() -> None:
    many = [TaskProblem(f"ml.key{number}", "ä" * 100, "write " * 20, number) for number in range(1000)]
    status = status_of(TaskError.of(many, "x" * 5000))
    assert status.ByteSize() <= MAX_DETAILS + MAX_MESSAGE
    assert len(status.message.encode()) <= MAX_MESSAGE
    arrived = error_of(carried(TaskError.of(many)))
    assert isinstance(arrived, TaskError)
    assert 3 < len(arrived.errors) < 1000
    assert arrived.errors == tuple(many[: len(arrived.errors)])


def test_a_text_that_is_not_utf_8_is_shown_with_escapes() -> None:
    error = TaskError("ml", "the file \udcff.csv is missing")
    arrived = error_of(carried(error))
    assert str(arrived) == str(error)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.TransportError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.TransportError),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.UNIMPLEMENTED, errors.ServiceError),
    ],
)
def test_an_answer_without_details_is_told_by_its_code(code: grpc.StatusCode, kind: type[MlnetError]) -> None:
    arrived = error_of(Failure(code, "failed to connect"))
    assert type(arrived) is kind
    assert str(arrived) == "failed to connect"
    if isinstance(arrived, ServiceError):
        assert arrived.status == code.name
    assert str(error_of(Failure(code, ""))) == f"the call ended with {code.name}"


@pytest.mark.parametrize(
    "details", [b"\xff\xff", b"", status_of(errors.NotFound("other")).SerializeToString()]
)
def test_details_that_make_no_sense_are_left_out(details: bytes) -> None:
    failure = Failure(grpc.StatusCode.NOT_FOUND, "no task", (("grpc-status-details-bin", details),))
    assert (type(error_of(failure)), str(error_of(failure))) == (errors.NotFound, "no task")


def test_a_kind_that_this_version_does_not_know_is_told_by_its_code() -> None:
    status = status_of(errors.NotFound("no task"))
    info = error_details_pb2.ErrorInfo(reason="OfTomorrow", domain="mlnet")
    status.details[0].Pack(info)
    sent: Any = rpc_status.to_status(status)
    assert type(error_of(Failure(sent.code, sent.details, sent.trailing_metadata))) is errors.NotFound


def test_a_failure_that_is_no_call_has_no_code() -> None:
    assert type(error_of(grpc.RpcError())) is ServiceError

"""Every error that mlnet raises on purpose, and the exit code with which ``mlnet-node`` reports it.

The first sentence of each docstring is what ``mlnet-node --help`` says of the exit code.

::

    MlnetError                      1   anything of ours; the base
    |-- ConfigError                 3   an option or a file of the operator's is wrong
    |   `-- PortInUse               4   the address to listen on is taken
    |-- StorageError                5   a file cannot be written; names it, and what is kept where
    |-- ServiceError                6   a node refused a call of its API
    |   |-- NotFound                7   it has no such task, peer or file
    |   |-- Overloaded              8   it has as much to do as it takes on
    |   `-- Unauthenticated         9   the token of the call is missing or wrong
    |-- TaskError                   10  the task definition is wrong; each error has a line, path, fix
    |-- DataError                   11  a dataset, segment or model cannot be read
    |   |-- HashMismatch            12  its bytes are not those that were promised
    |   |-- TooFewRows              13  it cannot fill ten segments
    |   `-- LabelError              14  its labels do not fit the model's output layer
    |-- TransportError              20  bytes could not be moved
    |   `-- PeerUnreachable         21  no address of a peer answered
    |-- StoreError                  25  the Redis server of a task failed
    |   `-- NoRedisBinary           26  there is none to start
    |-- TrainingError               30  the trainer process failed
    |-- TaskFailed                  31  the network ended the task without a model
    |   |-- TooFewNodes             32  fewer nodes answered, or were left, than the task needs
    |   |-- NoCommittee             33  too few of them have an open port
    |   `-- NodeLost                34  a node of the cluster went silent at a point where it is needed
    |-- TaskCancelled               35  the task's client cancelled it
    `-- ProtocolError               40  a message violates the protocol
        |-- LocalProtocolError      41  we were about to send it: a bug of ours
        `-- RemoteProtocolError     42  it came from the network: the sender's fault, our state is unchanged
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class MlnetError(Exception):
    """Base of all errors that mlnet raises on purpose.

    Its text can be sent and written whatever it names: a path that is not UTF-8 is shown with escapes.
    """

    exit_code = 1

    def __str__(self) -> str:
        return super().__str__().encode(errors="backslashreplace").decode()


class ConfigError(MlnetError):
    """An option, an environment variable or a file of the user is wrong."""

    exit_code = 3


class PortInUse(ConfigError):
    """The address or port to listen on is in use."""

    exit_code = 4


class StorageError(MlnetError):
    """A file cannot be written: the disk is full, read-only or broken, or the place is not ours to write."""

    exit_code = 5


class ServiceError(MlnetError):
    """A node refused a call of its API.

    Attributes:
        status: name of the gRPC status code of the answer, such as ``ALREADY_EXISTS``.
        retry_after: seconds after which another attempt may succeed; None where it would end the same.
    """

    exit_code = 6
    status = "FAILED_PRECONDITION"

    def __init__(self, message: str, *, status: str = "", retry_after: float | None = None) -> None:
        if status:
            self.status = status
        self.retry_after = retry_after
        super().__init__(message)


class NotFound(ServiceError):
    """A node has no such task, peer or file."""

    exit_code = 7
    status = "NOT_FOUND"


class Overloaded(ServiceError):
    """A node has as much to do as it takes on; another attempt may succeed later."""

    exit_code = 8
    status = "RESOURCE_EXHAUSTED"


class Unauthenticated(ServiceError):
    """The token for the API of a node is missing or wrong."""

    exit_code = 9
    status = "UNAUTHENTICATED"


@dataclass(frozen=True, slots=True)
class TaskProblem:
    """One thing that is wrong with a task definition.

    Attributes:
        path: the key's path, such as ``ml.optimizer.epochs``; empty when it concerns the whole document or a
            line that cannot be read.
        problem: what is wrong, with what stands there.
        fix: what to write instead; may be empty.
        line: where in the text, from 1; 0 if there is no text or no such place.
        column: where in the line, from 1; 0 if unknown.
        certain: whether only one correction is possible, so that ``validate --fix`` makes it.
    """

    path: str
    problem: str
    fix: str = ""
    line: int = 0
    column: int = 0
    certain: bool = False

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line else ""
        if place and not self.path and self.column:
            place += f", column {self.column}"
        words = [place, self.path, self.problem]
        return ": ".join(word for word in words if word) + (f" ({self.fix})" if self.fix else "")


class TaskError(MlnetError):
    """The task definition is wrong. The message names every error, if there is more than one.

    Attributes:
        errors: all that was found, in the order of the text; at least one.
        file: the definition's file, if it was read from one.
        path: of the first error.
        problem: of the first error.
        fix: of the first error.
    """

    exit_code = 10

    def __init__(
        self, path: str, problem: str, fix: str = "", *, errors: Sequence[TaskProblem] = (), file: str = ""
    ) -> None:
        self.errors = tuple(errors) or (TaskProblem(path, problem, fix),)
        self.path, self.problem, self.fix, self.file = path, problem, fix, file
        several = f"{len(self.errors)} errors: " if len(self.errors) > 1 else ""
        super().__init__(several + "; ".join(map(str, self.errors)))

    @classmethod
    def of(cls, errors: Sequence[TaskProblem], file: str = "") -> TaskError:
        """The error that consists of these, at least one."""
        first = errors[0]
        return cls(first.path, first.problem, first.fix, errors=errors, file=file)


class DataError(MlnetError):
    """A dataset, segment or model cannot be read."""

    exit_code = 11


class HashMismatch(DataError):
    """A file does not have the hash that was promised."""

    exit_code = 12


class TooFewRows(DataError):
    """The dataset has too few rows for ten segments."""

    exit_code = 13


class LabelError(DataError):
    """The labels do not fit the model's output layer or its loss."""

    exit_code = 14


class TransportError(MlnetError):
    """Data could not be transferred."""

    exit_code = 20


class PeerUnreachable(TransportError):
    """No peer can be reached.

    Attributes:
        why: address by address.
    """

    exit_code = 21

    def __init__(self, message: str, why: str = "") -> None:
        self.why = why or message
        super().__init__(message)


class StoreError(MlnetError):
    """The task's Redis server failed."""

    exit_code = 25


class NoRedisBinary(StoreError):
    """No Redis or Valkey server program was found."""

    exit_code = 26


class TrainingError(MlnetError):
    """Training failed."""

    exit_code = 30


class TaskFailed(MlnetError):
    """The task ended without a model; the message is the reason."""

    exit_code = 31


class TooFewNodes(TaskFailed):
    """Fewer nodes answered, or are left, than the task needs."""

    exit_code = 32


class NoCommittee(TaskFailed):
    """Too few nodes have an open port to form a committee."""

    exit_code = 33


class NodeLost(TaskFailed):
    """A node that the task needs was lost."""

    exit_code = 34


class TaskCancelled(MlnetError):
    """The task was cancelled by its client."""

    exit_code = 35


class ProtocolError(MlnetError):
    """A message violates the protocol."""

    exit_code = 40


class LocalProtocolError(ProtocolError):
    """This program was about to violate the protocol, which is a bug."""

    exit_code = 41


class RemoteProtocolError(ProtocolError):
    """Another peer violated the protocol; the state here is unchanged."""

    exit_code = 42


def every_kind() -> tuple[type[MlnetError], ...]:
    """The base and all kinds of error that derive from it, by exit code."""
    kinds = [kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, MlnetError)]
    return tuple(sorted(kinds, key=lambda kind: kind.exit_code))

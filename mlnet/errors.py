"""Every error that mlnet raises on purpose, and the exit code with which ``mlnet-node`` reports it.

::

    MlnetError                      1   anything of ours; the base
    |-- ConfigError                 3   an option or a file of the operator's is wrong
    |   `-- PortInUse               4   the address to listen on is taken
    |-- TaskError                   10  the task definition is wrong; names the key's path and a fix
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
    `-- ProtocolError               40  a message broke the rules
        |-- LocalProtocolError      41  we were about to send it: a bug of ours
        `-- RemoteProtocolError     42  it came from the network: the sender's fault, our state is unchanged
"""

from __future__ import annotations


class MlnetError(Exception):
    """Base of all errors that mlnet raises on purpose."""

    exit_code = 1


class ConfigError(MlnetError):
    """An option, environment variable or file of the operator's is wrong."""

    exit_code = 3


class PortInUse(ConfigError):
    """An address to listen on is taken."""

    exit_code = 4


class TaskError(MlnetError):
    """The task definition is wrong.

    Attributes:
        path: the key's path, such as ``ml.optimizer.epochs``; empty when it concerns the whole document.
        problem: what is wrong with it.
        fix: what to write instead.
    """

    exit_code = 10

    def __init__(self, path: str, problem: str, fix: str = "") -> None:
        self.path, self.problem, self.fix = path, problem, fix
        where = f"{path}: " if path else ""
        super().__init__(f"{where}{problem}" + (f" ({fix})" if fix else ""))


class DataError(MlnetError):
    """A dataset, segment or model cannot be read."""

    exit_code = 11


class HashMismatch(DataError):
    """The bytes that arrived are not those whose hash was promised."""

    exit_code = 12


class TooFewRows(DataError):
    """The dataset cannot fill ten segments."""

    exit_code = 13


class LabelError(DataError):
    """The labels do not fit the model's output layer or its loss."""

    exit_code = 14


class TransportError(MlnetError):
    """Bytes could not be moved."""

    exit_code = 20


class PeerUnreachable(TransportError):
    """No address of a peer answered."""

    exit_code = 21


class StoreError(MlnetError):
    """The Redis server of a task failed."""

    exit_code = 25


class NoRedisBinary(StoreError):
    """There is no Redis or Valkey server to start."""

    exit_code = 26


class TrainingError(MlnetError):
    """The trainer process failed."""

    exit_code = 30


class TaskFailed(MlnetError):
    """The network ended the task without a model; the message is the reason."""

    exit_code = 31


class TooFewNodes(TaskFailed):
    """Fewer nodes answered, or were left, than the task needs."""

    exit_code = 32


class NoCommittee(TaskFailed):
    """Too few members have an open port to seat a committee."""

    exit_code = 33


class NodeLost(TaskFailed):
    """A node of the cluster went silent at a point where it is needed."""

    exit_code = 34


class TaskCancelled(MlnetError):
    """The task's client cancelled it."""

    exit_code = 35


class ProtocolError(MlnetError):
    """A message broke the rules of the protocol."""

    exit_code = 40


class LocalProtocolError(ProtocolError):
    """We were about to break them: a bug of ours."""

    exit_code = 41


class RemoteProtocolError(ProtocolError):
    """The sender broke them; our state is unchanged."""

    exit_code = 42

import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_STATE_UNSPECIFIED: _ClassVar[TaskState]
    TASK_STATE_GATHERING: _ClassVar[TaskState]
    TASK_STATE_FORMING: _ClassVar[TaskState]
    TASK_STATE_TRAINING: _ClassVar[TaskState]
    TASK_STATE_FINISHING: _ClassVar[TaskState]
    TASK_STATE_COMPLETED: _ClassVar[TaskState]
    TASK_STATE_FAILED: _ClassVar[TaskState]
    TASK_STATE_CANCELLED: _ClassVar[TaskState]

class MemberChange(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBER_CHANGE_UNSPECIFIED: _ClassVar[MemberChange]
    MEMBER_CHANGE_JOINED: _ClassVar[MemberChange]
    MEMBER_CHANGE_LOST: _ClassVar[MemberChange]
    MEMBER_CHANGE_NOTED: _ClassVar[MemberChange]
TASK_STATE_UNSPECIFIED: TaskState
TASK_STATE_GATHERING: TaskState
TASK_STATE_FORMING: TaskState
TASK_STATE_TRAINING: TaskState
TASK_STATE_FINISHING: TaskState
TASK_STATE_COMPLETED: TaskState
TASK_STATE_FAILED: TaskState
TASK_STATE_CANCELLED: TaskState
MEMBER_CHANGE_UNSPECIFIED: MemberChange
MEMBER_CHANGE_JOINED: MemberChange
MEMBER_CHANGE_LOST: MemberChange
MEMBER_CHANGE_NOTED: MemberChange

class Task(_message.Message):
    __slots__ = ("id", "state", "phase", "name", "created_at", "ended_at", "reason", "code", "output", "revision", "waiting", "progress", "result", "members")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: TaskState
    phase: str
    name: str
    created_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    reason: str
    code: str
    output: str
    revision: int
    waiting: str
    progress: Progress
    result: TaskResult
    members: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[TaskState, str]] = ..., phase: _Optional[str] = ..., name: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., code: _Optional[str] = ..., output: _Optional[str] = ..., revision: _Optional[int] = ..., waiting: _Optional[str] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., result: _Optional[_Union[TaskResult, _Mapping]] = ..., members: _Optional[_Iterable[str]] = ...) -> None: ...

class TaskResult(_message.Message):
    __slots__ = ("validation_accuracy", "held_out_accuracy", "metrics", "model_size", "model_sha256", "attested_sha256", "payment_micro", "rewards_micro", "committee", "master", "replica", "segments", "held_out", "seconds")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class RewardsMicroEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class SecondsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    VALIDATION_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    MODEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    ATTESTED_SHA256_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_MICRO_FIELD_NUMBER: _ClassVar[int]
    REWARDS_MICRO_FIELD_NUMBER: _ClassVar[int]
    COMMITTEE_FIELD_NUMBER: _ClassVar[int]
    MASTER_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    validation_accuracy: float
    held_out_accuracy: float
    metrics: _containers.ScalarMap[str, float]
    model_size: int
    model_sha256: str
    attested_sha256: str
    payment_micro: int
    rewards_micro: _containers.ScalarMap[str, int]
    committee: _containers.RepeatedScalarFieldContainer[str]
    master: str
    replica: str
    segments: _containers.RepeatedScalarFieldContainer[str]
    held_out: _containers.RepeatedScalarFieldContainer[str]
    seconds: _containers.ScalarMap[str, float]
    def __init__(self, validation_accuracy: _Optional[float] = ..., held_out_accuracy: _Optional[float] = ..., metrics: _Optional[_Mapping[str, float]] = ..., model_size: _Optional[int] = ..., model_sha256: _Optional[str] = ..., attested_sha256: _Optional[str] = ..., payment_micro: _Optional[int] = ..., rewards_micro: _Optional[_Mapping[str, int]] = ..., committee: _Optional[_Iterable[str]] = ..., master: _Optional[str] = ..., replica: _Optional[str] = ..., segments: _Optional[_Iterable[str]] = ..., held_out: _Optional[_Iterable[str]] = ..., seconds: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("epoch", "epochs", "step", "steps", "loss", "accuracy", "rank")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    rank: int
    def __init__(self, epoch: _Optional[int] = ..., epochs: _Optional[int] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., loss: _Optional[float] = ..., accuracy: _Optional[float] = ..., rank: _Optional[int] = ...) -> None: ...

class DatasetSource(_message.Message):
    __slots__ = ("path", "blob_sha256", "link", "name", "labels")
    PATH_FIELD_NUMBER: _ClassVar[int]
    BLOB_SHA256_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    path: str
    blob_sha256: str
    link: str
    name: str
    labels: DatasetSource
    def __init__(self, path: _Optional[str] = ..., blob_sha256: _Optional[str] = ..., link: _Optional[str] = ..., name: _Optional[str] = ..., labels: _Optional[_Union[DatasetSource, _Mapping]] = ...) -> None: ...

class ValidateRequest(_message.Message):
    __slots__ = ("definition", "dataset", "read_dataset")
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    READ_DATASET_FIELD_NUMBER: _ClassVar[int]
    definition: str
    dataset: DatasetSource
    read_dataset: bool
    def __init__(self, definition: _Optional[str] = ..., dataset: _Optional[_Union[DatasetSource, _Mapping]] = ..., read_dataset: _Optional[bool] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("path", "problem", "fix", "line", "column", "certain")
    PATH_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    FIX_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    CERTAIN_FIELD_NUMBER: _ClassVar[int]
    path: str
    problem: str
    fix: str
    line: int
    column: int
    certain: bool
    def __init__(self, path: _Optional[str] = ..., problem: _Optional[str] = ..., fix: _Optional[str] = ..., line: _Optional[int] = ..., column: _Optional[int] = ..., certain: _Optional[bool] = ...) -> None: ...

class ValidateResponse(_message.Message):
    __slots__ = ("problems", "summary", "warnings", "parameters")
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    summary: _containers.RepeatedScalarFieldContainer[str]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    parameters: int
    def __init__(self, problems: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ..., summary: _Optional[_Iterable[str]] = ..., warnings: _Optional[_Iterable[str]] = ..., parameters: _Optional[int] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("definition", "dataset", "output", "waiting_period", "allowed_nodes", "idempotency_token")
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    WAITING_PERIOD_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_NODES_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    definition: str
    dataset: DatasetSource
    output: str
    waiting_period: _duration_pb2.Duration
    allowed_nodes: _containers.RepeatedScalarFieldContainer[str]
    idempotency_token: str
    def __init__(self, definition: _Optional[str] = ..., dataset: _Optional[_Union[DatasetSource, _Mapping]] = ..., output: _Optional[str] = ..., waiting_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., allowed_nodes: _Optional[_Iterable[str]] = ..., idempotency_token: _Optional[str] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("task", "warnings")
    TASK_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    task: Task
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, task: _Optional[_Union[Task, _Mapping]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: Task
    def __init__(self, task: _Optional[_Union[Task, _Mapping]] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "states", "created_after")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    CREATED_AFTER_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    states: _containers.RepeatedScalarFieldContainer[TaskState]
    created_after: _timestamp_pb2.Timestamp
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., states: _Optional[_Iterable[_Union[TaskState, str]]] = ..., created_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("tasks", "next_page_token")
    TASKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    next_page_token: str
    def __init__(self, tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("task", "from_revision", "max_events", "until_state")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FROM_REVISION_FIELD_NUMBER: _ClassVar[int]
    MAX_EVENTS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_STATE_FIELD_NUMBER: _ClassVar[int]
    task: str
    from_revision: int
    max_events: int
    until_state: TaskState
    def __init__(self, task: _Optional[str] = ..., from_revision: _Optional[int] = ..., max_events: _Optional[int] = ..., until_state: _Optional[_Union[TaskState, str]] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("event", "bookmark")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    BOOKMARK_FIELD_NUMBER: _ClassVar[int]
    event: Event
    bookmark: Bookmark
    def __init__(self, event: _Optional[_Union[Event, _Mapping]] = ..., bookmark: _Optional[_Union[Bookmark, _Mapping]] = ...) -> None: ...

class Bookmark(_message.Message):
    __slots__ = ("revision", "waiting")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    revision: int
    waiting: str
    def __init__(self, revision: _Optional[int] = ..., waiting: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("revision", "time", "task", "state", "phase", "answer", "members", "vote", "committee", "pings", "bound", "order", "progress", "member", "model", "rewards", "notice", "ended")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    VOTE_FIELD_NUMBER: _ClassVar[int]
    COMMITTEE_FIELD_NUMBER: _ClassVar[int]
    PINGS_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REWARDS_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    revision: int
    time: _timestamp_pb2.Timestamp
    task: str
    state: TaskState
    phase: PhaseEntered
    answer: NodeAnswered
    members: MembersChosen
    vote: VoteCounted
    committee: CommitteeElected
    pings: PingsRanked
    bound: ClusterBound
    order: OrderVoted
    progress: Progress
    member: MemberChanged
    model: ModelMade
    rewards: RewardsShared
    notice: Notice
    ended: TaskEnded
    def __init__(self, revision: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., task: _Optional[str] = ..., state: _Optional[_Union[TaskState, str]] = ..., phase: _Optional[_Union[PhaseEntered, _Mapping]] = ..., answer: _Optional[_Union[NodeAnswered, _Mapping]] = ..., members: _Optional[_Union[MembersChosen, _Mapping]] = ..., vote: _Optional[_Union[VoteCounted, _Mapping]] = ..., committee: _Optional[_Union[CommitteeElected, _Mapping]] = ..., pings: _Optional[_Union[PingsRanked, _Mapping]] = ..., bound: _Optional[_Union[ClusterBound, _Mapping]] = ..., order: _Optional[_Union[OrderVoted, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., member: _Optional[_Union[MemberChanged, _Mapping]] = ..., model: _Optional[_Union[ModelMade, _Mapping]] = ..., rewards: _Optional[_Union[RewardsShared, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ..., ended: _Optional[_Union[TaskEnded, _Mapping]] = ...) -> None: ...

class PhaseEntered(_message.Message):
    __slots__ = ("phase", "waiting")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    phase: str
    waiting: str
    def __init__(self, phase: _Optional[str] = ..., waiting: _Optional[str] = ...) -> None: ...

class NodeAnswered(_message.Message):
    __slots__ = ("peer", "open", "host", "refusal", "closed", "vote")
    PEER_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    VOTE_FIELD_NUMBER: _ClassVar[int]
    peer: str
    open: bool
    host: str
    refusal: str
    closed: str
    vote: int
    def __init__(self, peer: _Optional[str] = ..., open: _Optional[bool] = ..., host: _Optional[str] = ..., refusal: _Optional[str] = ..., closed: _Optional[str] = ..., vote: _Optional[int] = ...) -> None: ...

class MembersChosen(_message.Message):
    __slots__ = ("attempt", "members", "without", "reason")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    members: _containers.RepeatedScalarFieldContainer[str]
    without: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    def __init__(self, attempt: _Optional[int] = ..., members: _Optional[_Iterable[str]] = ..., without: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ...) -> None: ...

class VoteCounted(_message.Message):
    __slots__ = ("cycle", "votes", "kept", "reason")
    class VotesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CYCLE_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    cycle: int
    votes: _containers.ScalarMap[str, str]
    kept: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    def __init__(self, cycle: _Optional[int] = ..., votes: _Optional[_Mapping[str, str]] = ..., kept: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ...) -> None: ...

class CommitteeElected(_message.Message):
    __slots__ = ("committee", "reason")
    COMMITTEE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    committee: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    def __init__(self, committee: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ...) -> None: ...

class PingsRanked(_message.Message):
    __slots__ = ("members", "matrix", "points", "master", "replica", "reason")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    MATRIX_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    MASTER_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedScalarFieldContainer[str]
    matrix: _containers.RepeatedCompositeFieldContainer[PingRow]
    points: _containers.RepeatedScalarFieldContainer[float]
    master: str
    replica: str
    reason: str
    def __init__(self, members: _Optional[_Iterable[str]] = ..., matrix: _Optional[_Iterable[_Union[PingRow, _Mapping]]] = ..., points: _Optional[_Iterable[float]] = ..., master: _Optional[str] = ..., replica: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class PingRow(_message.Message):
    __slots__ = ("microseconds",)
    MICROSECONDS_FIELD_NUMBER: _ClassVar[int]
    microseconds: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, microseconds: _Optional[_Iterable[float]] = ...) -> None: ...

class ClusterBound(_message.Message):
    __slots__ = ("nodes", "committee", "decision")
    NODES_FIELD_NUMBER: _ClassVar[int]
    COMMITTEE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    committee: _containers.RepeatedScalarFieldContainer[str]
    decision: str
    def __init__(self, nodes: _Optional[_Iterable[str]] = ..., committee: _Optional[_Iterable[str]] = ..., decision: _Optional[str] = ...) -> None: ...

class OrderVoted(_message.Message):
    __slots__ = ("order", "held_out", "counted", "uncounted")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    UNCOUNTED_FIELD_NUMBER: _ClassVar[int]
    order: _containers.RepeatedScalarFieldContainer[str]
    held_out: _containers.RepeatedScalarFieldContainer[str]
    counted: _containers.RepeatedScalarFieldContainer[str]
    uncounted: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, order: _Optional[_Iterable[str]] = ..., held_out: _Optional[_Iterable[str]] = ..., counted: _Optional[_Iterable[str]] = ..., uncounted: _Optional[_Iterable[str]] = ...) -> None: ...

class MemberChanged(_message.Message):
    __slots__ = ("peer", "change", "reason")
    PEER_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    peer: str
    change: MemberChange
    reason: str
    def __init__(self, peer: _Optional[str] = ..., change: _Optional[_Union[MemberChange, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class ModelMade(_message.Message):
    __slots__ = ("scored", "accuracy", "metrics", "sha256")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SCORED_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    scored: bool
    accuracy: float
    metrics: _containers.ScalarMap[str, float]
    sha256: str
    def __init__(self, scored: _Optional[bool] = ..., accuracy: _Optional[float] = ..., metrics: _Optional[_Mapping[str, float]] = ..., sha256: _Optional[str] = ...) -> None: ...

class RewardsShared(_message.Message):
    __slots__ = ("payment_micro", "split_micro", "settled")
    class SplitMicroEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PAYMENT_MICRO_FIELD_NUMBER: _ClassVar[int]
    SPLIT_MICRO_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    payment_micro: int
    split_micro: _containers.ScalarMap[str, int]
    settled: bool
    def __init__(self, payment_micro: _Optional[int] = ..., split_micro: _Optional[_Mapping[str, int]] = ..., settled: _Optional[bool] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class TaskEnded(_message.Message):
    __slots__ = ("state", "reason", "code")
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    state: TaskState
    reason: str
    code: str
    def __init__(self, state: _Optional[_Union[TaskState, str]] = ..., reason: _Optional[str] = ..., code: _Optional[str] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("task", "reason")
    TASK_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    task: str
    reason: str
    def __init__(self, task: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CancelResponse(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: Task
    def __init__(self, task: _Optional[_Union[Task, _Mapping]] = ...) -> None: ...

class DownloadRequest(_message.Message):
    __slots__ = ("task", "offset")
    TASK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    task: str
    offset: int
    def __init__(self, task: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class DownloadResponse(_message.Message):
    __slots__ = ("data", "offset", "sha256", "size", "file_sha256")
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    FILE_SHA256_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    offset: int
    sha256: bytes
    size: int
    file_sha256: str
    def __init__(self, data: _Optional[bytes] = ..., offset: _Optional[int] = ..., sha256: _Optional[bytes] = ..., size: _Optional[int] = ..., file_sha256: _Optional[str] = ...) -> None: ...

class TranscriptRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class TranscriptResponse(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: bytes
    def __init__(self, lines: _Optional[bytes] = ...) -> None: ...

import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from mlnet.v1 import tasks_pb2 as _tasks_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("peer", "version", "started_at", "addresses", "reached", "connected_peers", "memberships", "tasks", "most_memberships", "memory", "threads", "disk")
    PEER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_PEERS_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIPS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    MOST_MEMBERSHIPS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    peer: str
    version: str
    started_at: _timestamp_pb2.Timestamp
    addresses: _containers.RepeatedScalarFieldContainer[str]
    reached: bool
    connected_peers: int
    memberships: _containers.RepeatedCompositeFieldContainer[Membership]
    tasks: _containers.RepeatedCompositeFieldContainer[_tasks_pb2.Task]
    most_memberships: int
    memory: int
    threads: int
    disk: int
    def __init__(self, peer: _Optional[str] = ..., version: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., addresses: _Optional[_Iterable[str]] = ..., reached: _Optional[bool] = ..., connected_peers: _Optional[int] = ..., memberships: _Optional[_Iterable[_Union[Membership, _Mapping]]] = ..., tasks: _Optional[_Iterable[_Union[_tasks_pb2.Task, _Mapping]]] = ..., most_memberships: _Optional[int] = ..., memory: _Optional[int] = ..., threads: _Optional[int] = ..., disk: _Optional[int] = ...) -> None: ...

class Membership(_message.Message):
    __slots__ = ("task", "client", "phase", "waiting")
    TASK_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    task: str
    client: str
    phase: str
    waiting: str
    def __init__(self, task: _Optional[str] = ..., client: _Optional[str] = ..., phase: _Optional[str] = ..., waiting: _Optional[str] = ...) -> None: ...

class PeersRequest(_message.Message):
    __slots__ = ("connected_only",)
    CONNECTED_ONLY_FIELD_NUMBER: _ClassVar[int]
    connected_only: bool
    def __init__(self, connected_only: _Optional[bool] = ...) -> None: ...

class PeersResponse(_message.Message):
    __slots__ = ("peers",)
    PEERS_FIELD_NUMBER: _ClassVar[int]
    peers: _containers.RepeatedCompositeFieldContainer[Peer]
    def __init__(self, peers: _Optional[_Iterable[_Union[Peer, _Mapping]]] = ...) -> None: ...

class Peer(_message.Message):
    __slots__ = ("id", "addresses", "connected", "round_trip", "clock_offset")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_FIELD_NUMBER: _ClassVar[int]
    id: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    connected: bool
    round_trip: _duration_pb2.Duration
    clock_offset: _duration_pb2.Duration
    def __init__(self, id: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., connected: _Optional[bool] = ..., round_trip: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., clock_offset: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class PingRequest(_message.Message):
    __slots__ = ("peer", "count")
    PEER_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    peer: str
    count: int
    def __init__(self, peer: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class PingResponse(_message.Message):
    __slots__ = ("peer", "round_trips")
    PEER_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIPS_FIELD_NUMBER: _ClassVar[int]
    peer: str
    round_trips: _containers.RepeatedCompositeFieldContainer[_duration_pb2.Duration]
    def __init__(self, peer: _Optional[str] = ..., round_trips: _Optional[_Iterable[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]]] = ...) -> None: ...

class LedgerRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LedgerResponse(_message.Message):
    __slots__ = ("receipts", "settled_micro", "claimed_micro")
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    SETTLED_MICRO_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_MICRO_FIELD_NUMBER: _ClassVar[int]
    receipts: _containers.RepeatedCompositeFieldContainer[Receipt]
    settled_micro: int
    claimed_micro: int
    def __init__(self, receipts: _Optional[_Iterable[_Union[Receipt, _Mapping]]] = ..., settled_micro: _Optional[int] = ..., claimed_micro: _Optional[int] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("task", "client", "settled", "amount_micro", "payment_micro", "recorded_at")
    TASK_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_MICRO_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_MICRO_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_FIELD_NUMBER: _ClassVar[int]
    task: str
    client: str
    settled: bool
    amount_micro: int
    payment_micro: int
    recorded_at: _timestamp_pb2.Timestamp
    def __init__(self, task: _Optional[str] = ..., client: _Optional[str] = ..., settled: _Optional[bool] = ..., amount_micro: _Optional[int] = ..., payment_micro: _Optional[int] = ..., recorded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class LimitsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LimitsResponse(_message.Message):
    __slots__ = ("limits",)
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    limits: _containers.RepeatedCompositeFieldContainer[Limit]
    def __init__(self, limits: _Optional[_Iterable[_Union[Limit, _Mapping]]] = ...) -> None: ...

class Limit(_message.Message):
    __slots__ = ("name", "most", "used", "unit")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    most: float
    used: float
    unit: str
    def __init__(self, name: _Optional[str] = ..., most: _Optional[float] = ..., used: _Optional[float] = ..., unit: _Optional[str] = ...) -> None: ...

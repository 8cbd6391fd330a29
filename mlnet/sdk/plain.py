"""Messages of the API as plain Python values, from which the typed ones are made."""

from __future__ import annotations

from datetime import UTC
from typing import Any, TypeVar

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from mlnet.errors import RemoteProtocolError

T = TypeVar("T")
UNKNOWN = "unknown"
"""Stands for a value of an enum that this version does not know."""


def to_plain(message: Message) -> dict[str, Any]:
    """The fields of a message by their names.

    Timestamps become datetimes in UTC, durations seconds, enums the lower-case end of their names, such as
    ``training`` for ``TASK_STATE_TRAINING``. A field that has presence and is absent is left out.
    """
    return {
        field.name: _value(message, field)
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def to(kind: type[T], values: dict[str, Any]) -> T:
    """A typed value from plain ones; fields that the type does not have are ignored.

    Raises:
        RemoteProtocolError: the values do not fit the type.
    """
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise RemoteProtocolError(f"the node answered with something else than expected: {error}") from None


def _value(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_single(one, field) for one in value]
    return _single(value, field)


def _single(value: Any, field: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToDatetime(UTC)
    if isinstance(value, Duration):
        return value.ToTimedelta().total_seconds()
    if isinstance(value, Message):
        return to_plain(value)
    if field.enum_type is not None:
        return _name(value, field)
    return value


def _name(number: int, field: Any) -> str:
    found = field.enum_type.values_by_number.get(number)
    if found is None or found.number == 0:
        return UNKNOWN
    prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(found.name.removeprefix(prefix).lower())

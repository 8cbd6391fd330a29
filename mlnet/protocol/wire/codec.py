"""Messages to envelope strings and back.

The string is one mapping: ``v``, ``type``, ``task``, ``attempt``, ``from``, ``sent``, ``body``. NEW_ML_TASK
and PEERS have neither ``task`` nor ``attempt``. What is written is JSON on one line that every YAML parser
reads alike, which makes it the signing input as it stands. What is read may be any YAML within the limits
below:

- a UTF-8 form of at most the bytes that its row in :mod:`~mlnet.protocol.wire.message_types` allows;
- :data:`MAX_DEPTH` levels, :data:`MAX_ITEMS` keys and values, keys of
  :data:`~mlnet.util.yaml12.MAX_KEY_BYTES`;
- integers of 63 bits, and decimals of at most six places and :data:`MAX_DECIMAL` in magnitude; no null;
- no anchors, aliases, tags, duplicate keys or second document (see :mod:`mlnet.util.yaml12`).

The fast reader, msgspec's, drops the first of two equal keys and knows none of these limits. It is believed
only where writing what it read gives the same text again; everything else goes through the strict loader. So
there is one reading. Most strings are read and written in one step by :mod:`mlnet.protocol.wire.fast_codec`.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeVar

import msgspec

from mlnet.errors import LocalProtocolError, RemoteProtocolError
from mlnet.identity.envelope import Envelope
from mlnet.protocol.wire import fast_codec
from mlnet.protocol.wire.fast_codec import MAX_DEPTH, MAX_INTEGER, Attempt, Sent
from mlnet.protocol.wire.message_types import MAX_BYTES, MESSAGE_TYPES
from mlnet.protocol.wire.messages import VERSION, Body, Message, PeerId
from mlnet.task.segments import Sha256
from mlnet.util import yaml12

MAX_ITEMS = 8192
"""More than a member list of 1,024 nodes has; it bounds the work that a hostile text can make."""
PLACES = 6
MAX_DECIMAL = 1e12

_MAX_REASON = 300
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class Header(msgspec.Struct, frozen=True):
    """What stands around the body. The types without a task have the empty task and attempt 0."""

    type: str
    sender: str
    sent: int
    task: str = ""
    attempt: int = 0


class _Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The mapping of a type without a task, its body still in plain values."""

    v: Literal[1]
    type: str
    sender: PeerId = msgspec.field(name="from")
    sent: Sent
    body: dict[str, Any]


class _TaskMapping(_Mapping, frozen=True, forbid_unknown_fields=True):
    """The mapping of every other type."""

    task: Sha256
    attempt: Attempt


class _Malformed(ValueError):
    """Why a mapping is no message; becomes the local or the remote error."""


def encode(
    kind: str, *, sender: str, sent: int, body: Body | dict[str, Any], task: str = "", attempt: int = 0
) -> str:
    """Write the envelope string of a message: JSON on one line, the same for the same values.

    Args:
        kind: the type's name on the wire.
        sender: peer id.
        sent: ms since 1970.
        body: the struct that belongs to the type, or its plain form. Decimals are rounded to six places.
        task: the task's id; left out of the types that have none.
        attempt: likewise.

    Raises:
        LocalProtocolError: the result is nothing that :func:`decode` would accept.
    """
    short = fast_codec.write(kind, sender=sender, sent=sent, body=body, task=task, attempt=attempt)
    if short is not None and len(short) <= MESSAGE_TYPES[kind].max_bytes:
        return short
    try:
        row = MESSAGE_TYPES.get(kind)
        if row is None:
            raise _Malformed("unknown type")
        mapping: dict[str, Any] = {"v": VERSION, "type": kind}
        if row.has_task:
            mapping |= {"task": task, "attempt": attempt}
        mapping |= {"from": sender, "sent": sent, "body": _plain_body(row.body, body)}
        _check_values(mapping)
        _check_header(mapping)
        text = _write(_spelled(mapping))
        _check_size(kind, len(text.encode()))
    except _Malformed as error:
        raise LocalProtocolError(f"{kind[:40]} cannot be sent: {error}") from None
    return text


def decode(text: str) -> tuple[Header, Body]:
    """Read an envelope string.

    Raises:
        RemoteProtocolError: it is not a message within the limits.
    """
    short = fast_codec.read(text)
    if short is not None and len(text) <= MESSAGE_TYPES[short.type].max_bytes:
        if not MESSAGE_TYPES[short.type].has_task:
            return Header(short.type, short.sender, short.sent), short.body
        return Header(short.type, short.sender, short.sent, short.task, short.attempt), short.body
    try:
        size = _size(text)
        mapping = _check_header(_read(text))
        _check_size(mapping.type, size)
        header = Header(mapping.type, mapping.sender, mapping.sent)
        if isinstance(mapping, _TaskMapping):
            header = msgspec.structs.replace(header, task=mapping.task, attempt=mapping.attempt)
        return header, _convert(mapping.body, MESSAGE_TYPES[header.type].body)
    except _Malformed as error:
        raise RemoteProtocolError(_printable(str(error))) from None


def message(envelope: Envelope) -> Message:
    """Read the message in an envelope. Its signature is not looked at.

    The task of a NEW_ML_TASK is the SHA-256 of its string; PEERS has none.

    Raises:
        RemoteProtocolError: it is not a message within the limits.
    """
    header, body = decode(envelope.yaml)
    task = envelope.digest if header.type == "NEW_ML_TASK" else header.task
    return Message(header.type, task, header.attempt, header.sender, header.sent, body, envelope)


def _plain_body(expected: type[Body], body: Body | dict[str, Any]) -> Any:
    """The body as plain values, its optional keys left out, the keys of its mappings in order."""
    if isinstance(body, dict):
        body = _convert(body, expected)
    elif type(body) is not expected:
        raise _Malformed(f"its body is a {expected.__name__}, not a {type(body).__name__}")
    try:
        plain = _rounded(msgspec.to_builtins(body, order="deterministic"))
    except (TypeError, RecursionError) as error:
        raise _Malformed(str(error)) from None
    _convert(plain, expected)  # a struct's constructor checks neither types nor bounds
    return plain


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float) and math.isfinite(value):
        return round(value, PLACES) + 0.0  # minus zero becomes zero
    return value


def _size(text: str) -> int:
    """Bytes of the UTF-8 form, bounded before anything is copied or parsed."""
    if len(text) > MAX_BYTES:
        raise _Malformed(f"the message is longer than {MAX_BYTES} bytes")
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise _Malformed("the message contains half of a surrogate pair") from None


def _check_size(kind: str, size: int) -> None:
    most = MESSAGE_TYPES[kind].max_bytes
    if size > most:
        raise _Malformed(f"a {kind} of {size} bytes is longer than {most} bytes")


def _read(text: str) -> dict[str, Any]:
    mapping = _read_fast(text)
    if mapping is None:
        mapping = _read_strict(text)
    _check_values(mapping)
    return mapping


def _read_fast(text: str) -> dict[str, Any] | None:
    """The mapping, if the text is what this module writes for it; else None."""
    try:
        mapping = msgspec.json.decode(text)
        return mapping if isinstance(mapping, dict) and _write(mapping) == text else None
    except (msgspec.MsgspecError, RecursionError, _Malformed):
        # msgspec bounds its own recursion; what is nested that deep, the strict loader refuses at its ninth
        # level.
        return None


def _read_strict(text: str) -> dict[str, Any]:
    try:
        mapping = yaml12.load(text, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH, max_items=MAX_ITEMS)
    except yaml12.YamlError as error:
        raise _Malformed(str(error)) from None
    if not isinstance(mapping, dict):
        raise _Malformed("the message is not a mapping")
    return mapping


def _write(mapping: dict[str, Any]) -> str:
    """JSON on one line, without what a YAML parser would refuse or read otherwise."""
    try:
        text = msgspec.json.encode(mapping).decode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise _Malformed(str(error)) from None
    return text if text.isascii() and "\x7f" not in text else yaml12.escape(text)


def _spelled(value: Any) -> Any:
    """The same value, small decimals as text for the writer, which would give them an exponent: 1e-6."""
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    if isinstance(value, float) and 0 < abs(value) < 1e-4:
        return msgspec.Raw(f"{value:.{PLACES}f}".rstrip("0").encode())
    return value


def _check_values(mapping: dict[str, Any]) -> None:
    """Bound depth, items, keys and numbers, level by level."""
    level: list[dict[str, Any] | list[Any]] = [mapping]
    items = 1
    for _ in range(MAX_DEPTH):
        below: list[dict[str, Any] | list[Any]] = []
        for container in level:
            if isinstance(container, dict):
                _check_keys(container)
                items += len(container)
            items += len(container)
            for value in container.values() if isinstance(container, dict) else container:
                if isinstance(value, dict | list):
                    below.append(value)
                else:
                    _check_scalar(value)
        if items > MAX_ITEMS:
            raise _Malformed(f"more than {MAX_ITEMS} keys and values")
        if not below:
            return
        level = below
    raise _Malformed(f"nested deeper than {MAX_DEPTH} levels")


def _check_keys(mapping: dict[str, Any]) -> None:
    for key in mapping:
        if len(key) * 4 > yaml12.MAX_KEY_BYTES and len(key.encode()) > yaml12.MAX_KEY_BYTES:
            raise _Malformed(f"a key is longer than {yaml12.MAX_KEY_BYTES} bytes")


def _check_scalar(value: Any) -> None:
    if isinstance(value, str | bool):
        return
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise _Malformed("an integer of more than 63 bits")
    elif isinstance(value, float):
        # Not (... <= ...) refuses what is not a number, too.
        if not abs(value) <= MAX_DECIMAL or round(value, PLACES) != value:
            raise _Malformed(f"a decimal has more than {PLACES} places, or is beyond {MAX_DECIMAL:.0f}")
    else:
        raise _Malformed("null is not allowed")


def _check_header(mapping: dict[str, Any]) -> _Mapping:
    kind = mapping.get("type")
    if not isinstance(kind, str) or kind not in MESSAGE_TYPES:
        raise _Malformed(f"unknown type {kind!r:.60}")
    return _convert(mapping, _TaskMapping if MESSAGE_TYPES[kind].has_task else _Mapping)


def _convert(value: Any, struct: type[_Struct]) -> _Struct:
    try:
        return msgspec.convert(value, struct)
    except msgspec.ValidationError as error:
        raise _Malformed(str(error)) from None


def _printable(text: str) -> str:
    """A reason that may quote the sender: one line, short, nothing that moves a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text[:_MAX_REASON])

"""The short way for most envelope strings: those that :mod:`~mlnet.protocol.wire.codec` writes, in ASCII.

One reader a type turns the string into the type's structs and checks their bounds on the way. It is believed
only where the struct writes the same string again, which leaves nothing to duplicate keys, to another form of
a number or to an optional key that is written out. Only types whose bounds imply all limits of the codec take
part, so the long way would read alike what is read here. It also finds the words for what is refused.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, inspect

from mlnet.protocol.wire.message_types import MESSAGE_TYPES, MessageType
from mlnet.protocol.wire.messages import MAX_ATTEMPTS, VERSION, PeerId
from mlnet.task.segments import Sha256
from mlnet.util.yaml12 import MAX_KEY_BYTES

MOST = 8192
"""Characters of the longest string that goes this way. A key or value takes two at least, so not even half of
the codec's limit of items can be reached."""
MAX_DEPTH = 8
"""Levels of a message, in whatever way it is read: the deepest one has five, and readers in other languages
may recurse."""
MAX_INTEGER = 2**63 - 1
"""Magnitude of an integer in a message: what every language holds in 64 bits."""

Sent = Annotated[int, Meta(ge=0, le=2**53)]
Attempt = Annotated[int, Meta(ge=0, le=MAX_ATTEMPTS)]
Text = Annotated[str, Meta(max_length=64)]

_START = f'{{"v":{VERSION},"type":"'
_LONGEST_NAME = max(map(len, MESSAGE_TYPES))
_ENCODER = msgspec.json.Encoder(order="deterministic")


class _Form(NamedTuple):
    """A type's whole mapping as a struct, and what reads it."""

    struct: Any
    decoder: msgspec.json.Decoder[Any]


def read(text: str) -> Any:
    """The mapping of a message, if its string is one that :func:`write` makes, else None.

    Returns:
        A struct with the header's values by name (``sender`` for ``from``) and the typed body.
    """
    kind = text[len(_START) : text.find('"', len(_START), len(_START) + _LONGEST_NAME + 1)]
    form = _FORMS.get(kind)
    if form is None or len(text) > MOST or not text.isascii() or "\x7f" in text:
        return None
    return _mapping(form, text.encode())


def write(kind: str, *, sender: str, sent: int, body: Any, task: str, attempt: int) -> str | None:
    """The string of a message, if :func:`read` reads it, else None."""
    form = _FORMS.get(kind)
    if form is None or type(body) is not MESSAGE_TYPES[kind].body:
        return None
    place = (task, attempt) if MESSAGE_TYPES[kind].has_task else ()
    try:
        data = _ENCODER.encode(form.struct(VERSION, kind, *place, sender, sent, body))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    if len(data) > MOST or not data.isascii() or b"\x7f" in data or _mapping(form, data) is None:
        return None
    return data.decode()


def _mapping(form: _Form, data: bytes) -> Any:
    """What is read, if it is written alike."""
    try:
        mapping = form.decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        return None
    if _ENCODER.encode(mapping) != data or not _is_peer(mapping.sender):
        return None
    return mapping if not MESSAGE_TYPES[mapping.type].has_task or _is_task(mapping.task) else None


def _fits(text: str, pattern: Any) -> bool:
    try:
        msgspec.convert(text, pattern)
    except msgspec.ValidationError:
        return False
    return True


# Patterns take more time than all else, and the same few peers and tasks come again and again.
@lru_cache(maxsize=4096)
def _is_peer(text: str) -> bool:
    return _fits(text, PeerId)


@lru_cache(maxsize=1024)
def _is_task(text: str) -> bool:
    return _fits(text, Sha256)


def _form(row: MessageType) -> _Form:
    place = [("task", Text), ("attempt", Attempt)] if row.has_task else []
    struct = msgspec.defstruct(
        row.name,
        [
            ("v", Literal[VERSION]),
            ("type", Literal[row.name]),
            *place,
            ("sender", Text),
            ("sent", Sent),
            ("body", row.body),
        ],
        rename={"sender": "from"},
        frozen=True,
        forbid_unknown_fields=True,
    )
    return _Form(struct, msgspec.json.Decoder(struct))


def _depth(info: inspect.Type) -> int:
    """Levels of lists and mappings of a type; more than are allowed if its bounds leave a limit open."""
    match info:
        case inspect.BoolType() | inspect.StrType() | inspect.LiteralType():
            return 0
        case (
            inspect.IntType(ge=int() as low, le=int() as high)
            | inspect.IntType(ge=int() as low, lt=int() as high)
        ):
            return 0 if low >= -MAX_INTEGER and high <= MAX_INTEGER else MAX_DEPTH + 1
        case inspect.StructType():
            return 1 + max((_depth(field.type) for field in info.fields), default=0)
        case inspect.VarTupleType():
            return 1 + _depth(info.item_type)
        case inspect.DictType(key_type=inspect.StrType(max_length=int() as longest)):
            return 1 + _depth(info.value_type) if longest <= MAX_KEY_BYTES else MAX_DEPTH + 1
    return MAX_DEPTH + 1


_FORMS = {
    row.name: _form(row)
    for row in MESSAGE_TYPES.values()
    if 1 + _depth(inspect.type_info(row.body)) <= MAX_DEPTH
}

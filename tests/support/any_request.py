"""Requests that nobody has thought of: any values in any fields of a message, and bytes that are none."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor, message_factory
from hypothesis import strategies as st

DEPTH = 4
TEXTS = (
    "",
    "0000",
    "ab" * 32,
    "\x00",
    "/",
    "..",
    "/etc/passwd",
    "~/x",
    "http://[",
    "file://[/x",
    "://",
    "/ip4/127.0.0.1/tcp/1/p2p/x",
    "/dns/x",
    "\x1b[2J\u202e",
    "a: [",
    "&a [*a]",
    "[" * 3000,
    "kgHEAA==",
)
"""Of kinds that something may trip over."""


def requests(kind: descriptor.Descriptor, depth: int = DEPTH) -> st.SearchStrategy[Any]:
    """Messages of a kind."""
    made = message_factory.GetMessageClass(kind)
    fields = {field.name: _values(field, depth) for field in kind.fields if depth or not field.message_type}
    # Of a oneof the last one counts.
    return st.fixed_dictionaries({}, optional=fields).map(lambda chosen: made(**chosen))


def _values(field: descriptor.FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    one = requests(field.message_type, depth - 1) if field.message_type else _scalars(field)
    return st.lists(one, max_size=3) if field.is_repeated else one


def _scalars(field: descriptor.FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == field.TYPE_STRING:
        return st.sampled_from(TEXTS) | st.text(max_size=30)
    if field.type == field.TYPE_BYTES:
        return st.binary(max_size=100)
    if field.type == field.TYPE_BOOL:
        return st.booleans()
    if field.cpp_type in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        return st.floats(width=32)
    bits = 64 if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64) else 32
    if field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
        return st.integers(0, 2**bits - 1)
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

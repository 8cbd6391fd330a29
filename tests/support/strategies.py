"""Hypothesis strategies for the bodies of all message types, made from the types themselves."""

from __future__ import annotations

from typing import Any

import msgspec.inspect as inspect
from hypothesis import strategies as st

from mlnet.protocol.wire.message_types import MESSAGE_TYPES
from mlnet.protocol.wire.messages import Body

# All that a string can carry: controls, non-characters and the line breaks of every YAML, but no surrogates.
CHARACTERS = st.characters(exclude_categories=["Cs"])
AWKWARD = (
    "\x00\t\n\r\x1f \"'\\/#:-,[]{}&*!|>%@`?~\x7f\x80\x85\x9f\xa0"
    "\u2028\u2029\ufdd0\ufeff\ufffd\ufffe\uffff\U0001f600\U0010ffff"
)
TEXT = st.text(st.one_of(CHARACTERS, st.sampled_from(AWKWARD)), max_size=40)
DECIMALS = st.integers(-(10**15), 10**15).map(lambda n: n / 10**6)

PEER_IDS = st.text("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", min_size=46, max_size=52)
_PATTERNS = {
    "[1-9A-HJ-NP-Za-km-z]": PEER_IDS,
    "[0-9a-f]{64}": st.binary(min_size=32, max_size=32).map(bytes.hex),
    "[0-9a-f]{128}": st.binary(min_size=64, max_size=64).map(bytes.hex),
}
DIGESTS = _PATTERNS["[0-9a-f]{64}"]


def body_of(kind: str) -> st.SearchStrategy[Body]:
    """Bodies of one type."""
    strategy: st.SearchStrategy[Body] = _strategy(inspect.type_info(MESSAGE_TYPES[kind].body))
    return strategy


def _strategy(info: inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case inspect.StructType():
            return st.builds(info.cls, **{field.name: _strategy(field.type) for field in info.fields})
        case inspect.StrType():
            return _text(info)
        case inspect.IntType():
            low = info.ge if info.ge is not None else -(2**62)
            high = info.le if info.le is not None else info.lt - 1 if info.lt is not None else 2**62
            return st.integers(low, high)
        case inspect.FloatType():
            return DECIMALS
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.UnionType():
            return st.one_of([_strategy(member) for member in info.types])
        case inspect.VarTupleType():
            few = min(max(3, info.min_length or 0), info.max_length or 3)
            return st.lists(_strategy(info.item_type), min_size=info.min_length or 0, max_size=few).map(tuple)
        case inspect.DictType():
            return st.dictionaries(_strategy(info.key_type), _strategy(info.value_type), max_size=3)
        case _:
            raise TypeError(f"no strategy for {info}")


def _text(info: inspect.StrType) -> st.SearchStrategy[str]:
    if info.pattern is None:
        return TEXT.filter(lambda text: (info.min_length or 0) <= len(text) <= (info.max_length or 40))
    return next(strategy for pattern, strategy in _PATTERNS.items() if pattern in info.pattern)

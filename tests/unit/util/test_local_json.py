"""JSON with paths that are not UTF-8."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from mlnet.errors import StorageError
from mlnet.util import local_json


class Place(msgspec.Struct, frozen=True):
    path: str
    number: int = 1


@pytest.mark.parametrize("path", ["/tmp/plain", "/tmp/ü", os.fsdecode(b"/tmp/n\xff\xfe\xc3")])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_path_comes_back_as_it_was(path: str, indent: int | None) -> None:
    place = Place(path)
    assert local_json.decode(local_json.encode(place, indent), Place) == place


def test_a_document_of_text_is_like_any_other() -> None:
    assert local_json.encode(Place("ü")) == msgspec.json.encode(Place("ü"))


@pytest.mark.parametrize(
    "wrong", [b"", b"{", b'{"path": "\\udcff"', b'{"path": "\\udcff", "number": "x"}', b"[" * 5000]
)
def test_what_is_no_document_is_refused(wrong: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        local_json.decode(wrong, Place)


def test_an_error_that_names_such_a_path_can_be_sent() -> None:
    path = Path(os.fsdecode(b"/tmp/n\xff"))
    assert str(StorageError(f"{path} is full")) == "/tmp/n\\udcff is full"

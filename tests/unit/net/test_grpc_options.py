"""grpc ignores options that it does not know, without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from mlnet.net.sending.grpc_channel import CHANNEL_OPTIONS, SERVER_OPTIONS
from mlnet.service.server import OPTIONS

NAMES = sorted({name for name, _ in (*CHANNEL_OPTIONS, *SERVER_OPTIONS, *OPTIONS)})


@pytest.fixture(scope="module")
def library() -> bytes:
    return Path(cygrpc.__file__).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_grpc_knows_every_option(library: bytes, name: str) -> None:
    assert name.encode() + b"\0" in library

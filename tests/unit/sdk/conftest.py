"""What the tests of clients share: a path for the socket of a node of their own, and no long pauses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.api_double import socket_path

from mlnet.sdk import async_client, watching


@pytest.fixture
def place() -> Iterator[Path]:
    yield from socket_path()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(async_client, "RETRY_SECONDS", 0.01)
    for name in ("MLNET_NODE", "MLNET_TOKEN"):
        monkeypatch.delenv(name, raising=False)

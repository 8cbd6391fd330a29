"""Tests of the network run on both byte paths: the native thread, and Python."""

from __future__ import annotations

import pytest

from mlnet.net.muxer import select

TWICE = {
    "test_net_envelopes",
    "test_net_gossip",
    "test_net_host",
    "test_net_interop",
    "test_net_limits",
    "test_net_services",
}


@pytest.fixture
def byte_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts of this test move their bytes this way."""
    monkeypatch.setenv("MLNET_EXTENSIONS", "skip" if request.param == "python" else "auto")
    if select.implementation() != request.param:
        pytest.skip("the native byte path was not built")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in TWICE:
        metafunc.fixturenames.append("byte_path")
        metafunc.parametrize("byte_path", ["native", "python"], indirect=True)

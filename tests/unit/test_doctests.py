"""The examples in docstrings show what the functions return."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    "mlnet.identity.keys",
    "mlnet.kernels.borda",
    "mlnet.kernels.pingmatrix",
    "mlnet.kernels.segmenthash",
    "mlnet.net.addresses",
    "mlnet.net.rates",
    "mlnet.training.partition",
    "mlnet.util.files",
    "mlnet.util.hosts",
    "mlnet.util.wording",
    "mlnet.util.yaml12",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_hold(name: str) -> None:
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted, f"{name} has no example"
    assert not failed

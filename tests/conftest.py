"""What tests of more than one room share."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from hypothesis import settings

# A deadline would make a busy machine fail a correct test.
settings.register_profile("mlnet", deadline=None)
settings.load_profile("mlnet")

# A shell starts what runs in the background with Ctrl-C ignored; then a node ignores it as well, and so would
# those that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

Implementation = Literal["pure", "compiled"]
KERNELS = ("borda", "pingmatrix", "segmenthash")


@pytest.fixture(scope="module", params=["pure", "compiled"])
def kernels(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    """Runs every test that asks for it on the pure twin and on the compiled kernels."""
    implementation: Implementation = request.param
    with pytest.MonkeyPatch.context() as patch:
        for name in KERNELS:
            front = importlib.import_module(f"mlnet.kernels.{name}")
            patch.setattr(front, "_impl", load_kernel(name, implementation))
        yield implementation


def load_kernel(name: str, implementation: Implementation) -> Any:
    """The module behind mlnet.kernels.NAME; skips the test where there is no compiled one."""
    if implementation == "pure":
        return importlib.import_module("mlnet.kernels.reference")
    return pytest.importorskip(
        f"mlnet.kernels._{name}", reason="the kernels are not compiled here", exc_type=ImportError
    )


def engines(name: str, portable: bool) -> Iterator[Any]:
    kernel = load_kernel(name, "compiled")
    kernel.select_engine(portable=portable)
    yield kernel
    kernel.select_engine(portable=False)


@pytest.fixture(scope="module", params=["fastest", "portable"])
def sha256_engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The compiled kernel, with the processor's SHA-256 instructions and without them."""
    yield from engines("segmenthash", request.param == "portable")


@pytest.fixture(scope="module", params=["fastest", "portable"])
def median_engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The compiled kernel, with the processor's vectors and without them."""
    yield from engines("pingmatrix", request.param == "portable")


@pytest.fixture(scope="module", params=["fastest", "portable"])
def borda_engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The compiled kernel, with the processor's vectors and without them."""
    yield from engines("borda", request.param == "portable")

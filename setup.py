"""The Cython extensions; everything else about the package is in pyproject.toml.

The environment variable MLNET_EXTENSIONS says what happens to them: ``auto`` (the default) builds them where
a C compiler works and warns where not, ``require`` fails without one, ``skip`` leaves them out. mlnet.kernels
runs without them, slower.
"""

from __future__ import annotations

import os
import sys

from setuptools import Extension, setup

MODE = os.environ.get("MLNET_EXTENSIONS", "auto")
if MODE not in {"auto", "require", "skip"}:
    raise SystemExit(f"MLNET_EXTENSIONS={MODE!r}: write auto, require or skip")


def extension(name: str, *headers: str, package: str = "mlnet.kernels") -> Extension:
    return Extension(
        f"{package}._{name}",
        [f"ext/{name}.pyx"],
        include_dirs=["ext"],
        depends=[f"ext/{header}" for header in headers],
        extra_compile_args=["-O3", "-Wall", "-Wextra", "-pthread"],
        optional=MODE == "auto",
    )


EXTENSIONS = [
    extension("borda", "borda.h"),
    extension("pingmatrix", "pingmatrix.h", "pingmatrix_avx2.h"),
    extension("segmenthash", "segmentfile.h", "sha256.h"),
    extension("signatures"),
]
# It stands on epoll and eventfd. Elsewhere mlnet.net.muxer.yamux does the same in Python.
if sys.platform == "linux":
    parts = (
        "session_aead.h",
        "session_reactor.h",
        "session_receive.h",
        "session_send.h",
        "session_state.h",
        "session_stream.h",
    )
    EXTENSIONS.append(extension("session", "session.h", *parts, package="mlnet.net.muxer"))

setup(
    options={"build_ext": {"cython_c_in_temp": True}},
    ext_modules=[] if MODE == "skip" else EXTENSIONS,
)

"""The Cython extensions; everything else about the package is in pyproject.toml.

The environment variable MLNET_EXTENSIONS says what happens to them: ``auto`` (the default) builds them where
a C compiler works and warns where not, ``require`` fails without one, ``skip`` leaves them out. mlnet.kernels
runs without them, slower.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

MODE = os.environ.get("MLNET_EXTENSIONS", "auto")
if MODE not in {"auto", "require", "skip"}:
    raise SystemExit(f"MLNET_EXTENSIONS={MODE!r}: write auto, require or skip")


def extension(name: str, folder: str) -> Extension:
    """Everything in ext/FOLDER, as the module NAME, except a C file that Cython may have left there."""
    home = Path("ext", folder)
    module = home.name
    written = sorted(str(path) for path in home.glob("*.c") if path.stem != module)
    return Extension(
        name,
        [str(home / f"{module}.pyx"), *written],
        include_dirs=[str(home)],
        depends=sorted(str(path) for path in [*home.glob("*.h"), *home.parent.glob("*.h")]),
        # What the files of an extension share concerns nobody else; hidden, it is called without a table.
        extra_compile_args=["-O3", "-Wall", "-Wextra", "-pthread", "-fvisibility=hidden"],
        optional=MODE == "auto",
    )


KERNELS = ("borda", "pingmatrix", "segmenthash", "signatures")
EXTENSIONS = [extension(f"mlnet.kernels._{name}", f"kernels/{name}") for name in KERNELS]
# It stands on epoll and eventfd. Elsewhere mlnet.net.muxer.yamux does the same in Python.
if sys.platform == "linux":
    EXTENSIONS.append(extension("mlnet.net.muxer._session", "session"))

setup(
    options={"build_ext": {"cython_c_in_temp": True}},
    ext_modules=[] if MODE == "skip" else EXTENSIONS,
)

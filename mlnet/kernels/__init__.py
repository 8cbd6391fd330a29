"""The protocol's hot paths: compiled from ``ext/`` where a C compiler was at hand, else pure Python.

Both give exactly the same results; :mod:`mlnet.kernels.reference` is the pure one and defines what is right.
The environment variable ``MLNET_EXTENSIONS`` overrules the choice at run time: ``skip`` takes the twin,
``require`` fails with an ImportError where the compiled kernels are missing. ``IMPLEMENTATION`` says which
one runs.
"""

from __future__ import annotations

import os
from typing import Final, Literal

_mode = os.environ.get("MLNET_EXTENSIONS", "auto")
if _mode not in {"auto", "require", "skip"}:
    raise ImportError(f"MLNET_EXTENSIONS={_mode!r}: write auto, require or skip")

_implementation: Literal["compiled", "pure"] = "pure"
if _mode != "skip":
    try:
        from mlnet.kernels import _borda, _pingmatrix, _segmenthash  # noqa: F401
    except ImportError:
        if _mode == "require":
            raise
    else:
        _implementation = "compiled"

IMPLEMENTATION: Final = _implementation

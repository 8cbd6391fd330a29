"""What an operator or a user may set, beyond the network: directories, limits, servers."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from mlnet.data.links import LinkPolicy
from mlnet.errors import ConfigError
from mlnet.protocol.deadlines import Deadlines
from mlnet.protocol.messages import Resources
from mlnet.protocol.node import Terms
from mlnet.wire import WireOptions


def offered(memory: int | None = None, threads: int | None = None) -> Resources:
    """What this machine offers a task unless told otherwise: half of its memory (MiB), all processors that it
    may use."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return Resources(memory or pages // 2, threads or len(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class NodeOptions:
    """Settings of a node.

    Attributes:
        data_dir: identity, journals, ledger, models on offer.
        wire: where to listen, whom to dial.
        terms: what tasks may have.
        deadlines: of the protocol.
        redis: a server's binary; None to find one.
        redis_ports: the first free one of these, inclusive; None for any free port.
        disk: bytes that the segments and the model of a task may take.
        policy: what links may do.
        tunnel_training: whether the other members' gradients come by way of this node's connections.
    """

    data_dir: Path
    wire: WireOptions = field(default_factory=WireOptions)
    terms: Terms = field(default_factory=lambda: Terms(offered()))
    deadlines: Deadlines = field(default_factory=Deadlines)
    redis: str | None = None
    redis_ports: tuple[int, int] | None = None
    disk: int = 10 << 30
    policy: LinkPolicy = field(default_factory=LinkPolicy)
    tunnel_training: bool = False


@dataclass(frozen=True)
class ClientOptions:
    """Settings of a client.

    Attributes:
        data_dir: identity, journals, segments of its running tasks.
        wire: where to listen, whom to dial.
        deadlines: of the protocol.
        allowed: peer ids that may take part; None for all.
    """

    data_dir: Path
    wire: WireOptions = field(default_factory=WireOptions)
    deadlines: Deadlines = field(default_factory=Deadlines)
    allowed: frozenset[str] | None = None


def runtime_dir(peer_id: str) -> Path:
    """A private directory for sockets, its name short enough for them, and the same each time for one
    identity.

    Raises:
        ConfigError: somebody else owns it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    path = Path(base) / f"mlnet-{peer_id[-16:]}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.stat(follow_symlinks=False)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be used for sockets: {error.strerror}; set XDG_RUNTIME_DIR"
        ) from error
    if status.st_uid != os.getuid() or not path.is_dir() or path.is_symlink():
        raise ConfigError(f"{path} belongs to somebody else; remove it or set XDG_RUNTIME_DIR")
    path.chmod(0o700)
    return path

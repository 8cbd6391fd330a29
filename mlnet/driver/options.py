"""What an operator or a user may set, beyond the network: directories, limits, servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mlnet.data.schemes.base import LinkPolicy
from mlnet.driver.messenger import WireOptions
from mlnet.protocol.deadlines import Deadlines
from mlnet.protocol.node import Terms
from mlnet.protocol.wire.messages import Resources
from mlnet.util import capacity


def offered(memory: int | None = None, threads: int | None = None) -> Resources:
    """What this machine offers a task unless told otherwise: half of the memory (MiB) and all processors that
    this process may use."""
    return Resources(memory or max(1, capacity.memory() >> 21), threads or capacity.processors())


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

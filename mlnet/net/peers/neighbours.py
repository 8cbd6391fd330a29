"""Which of the connected peers get gossip. No I/O."""

from __future__ import annotations

from mlnet.net.types import Limits

MAX_DEPENDENTS = 64
"""Poorly connected peers that get our gossip beside the neighbours. Any peer can claim to have few
connections; the bound keeps that from making every connection a gossip target."""


class Neighbours:
    """The gossip targets: the connected peers that came first, up to ``max_neighbours``, and peers that have
    few connections themselves.

    A hub has more connections than it may gossip to. Without the second group, a node that knows only the hub
    and came late would never hear of a task.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._connected: dict[str, None] = {}
        self._dependents: dict[str, None] = {}

    def add(self, peer: str) -> None:
        """A peer has connected."""
        self._connected[peer] = None

    def remove(self, peer: str) -> None:
        """A peer has disconnected."""
        self._connected.pop(peer, None)
        self._dependents.pop(peer, None)

    def on_degree(self, peer: str, degree: int) -> None:
        """A peer has stated how many connections it has."""
        if degree >= self._limits.min_neighbours:
            self._dependents.pop(peer, None)
        elif len(self._dependents) < MAX_DEPENDENTS:
            self._dependents[peer] = None

    @property
    def connected(self) -> list[str]:
        """All connected peers, in the order in which they connected."""
        return list(self._connected)

    def __contains__(self, peer: object) -> bool:
        return peer in self._connected

    def __len__(self) -> int:
        return len(self._connected)

    def chosen(self) -> list[str]:
        """The neighbours."""
        return list(self._connected)[: self._limits.max_neighbours]

    def targets(self) -> list[str]:
        """The peers that get gossip: the neighbours and the connected dependents."""
        dependents = [peer for peer in self._dependents if peer in self._connected]
        return list(dict.fromkeys([*self.chosen(), *dependents]))

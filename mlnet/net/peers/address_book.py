"""The addresses at which peers can be dialled. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from mlnet.net import addresses
from mlnet.net.types import Limits
from mlnet.util.hosts import is_loopback


class AddressBook:
    """Dialable addresses by peer. Those of pinned peers are never dropped; beyond ``known_peers`` the least
    recently learned peer is forgotten."""

    def __init__(self, own: str, limits: Limits) -> None:
        self._own, self._limits = own, limits
        self._pinned: dict[str, list[str]] = {}
        self._learned: OrderedDict[str, list[str]] = OrderedDict()

    def pin(self, peer: str, address: str) -> None:
        """Keep an address that the operator gave."""
        kept = self._pinned.setdefault(peer, [])
        if address not in kept:
            kept.append(address)

    @property
    def pinned(self) -> list[str]:
        """The peers that the operator named."""
        return list(self._pinned)

    def learn(self, peer: str, found: Sequence[str]) -> bool:
        """Replace what was learned before by what a signed message says about a peer; return whether anything
        usable was in it. A message without a usable address changes nothing."""
        usable: list[str] = []
        # More than are kept, since some are not usable; but not all, since the peer chooses how many there
        # are.
        for address in found[: 4 * self._limits.addresses_per_peer]:
            dialable = addresses.from_network(peer, address)
            if dialable is not None and dialable not in usable:
                usable.append(dialable)
        if not usable or peer == self._own:
            return False
        self._learned[peer] = usable[: self._limits.addresses_per_peer]
        self._learned.move_to_end(peer)
        while len(self._learned) > self._limits.known_peers:
            self._learned.popitem(last=False)
        return True

    def get(self, peer: str) -> list[str]:
        """Addresses to dial, pinned ones first. Loopback comes last: it is the peer only on its own
        machine."""
        found = dict.fromkeys([*self._pinned.get(peer, ()), *self._learned.get(peer, ())])
        return sorted(found, key=lambda address: is_loopback(addresses.host_of(address)))

    def known(self) -> dict[str, list[str]]:
        """All peers with full multiaddrs."""
        return {
            peer: [f"{address}/p2p/{peer}" for address in self.get(peer)]
            for peer in dict.fromkeys([*self._pinned, *self._learned])
        }

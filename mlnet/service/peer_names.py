"""Peers as people name them: by a part of the id, which is long."""

from __future__ import annotations

from collections.abc import Iterable

from mlnet.errors import ConfigError, NotFound

SHORTEST = 4
"""Characters of a part that is looked for."""


def choose(part: str, known: Iterable[str]) -> str:
    """The one peer whose id begins or ends so.

    Raises:
        NotFound: there is none.
        ConfigError: there are several, or the part is too short to tell.
    """
    if len(part) < SHORTEST:
        raise ConfigError(f"{part!r} is no peer; name {SHORTEST} characters of its id, or its multiaddr")
    found = sorted(peer for peer in known if peer.startswith(part) or peer.endswith(part))
    if not found:
        raise NotFound(f"this node knows no peer {part[:80]!r}; name its multiaddr, which ends in /p2p/ID")
    if len(found) > 1:
        raise ConfigError(
            f"{part!r} may be {len(found)} peers, such as {found[0]} and {found[1]}; name more of the id"
        )
    return found[0]

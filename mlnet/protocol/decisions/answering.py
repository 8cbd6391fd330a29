"""Which nodes answer a task, and when: few at first, more while the waiting period passes.

In a network of many nodes all would otherwise answer a popular task at once. A node answers in the first
eighth of the waiting period in which SHA-256(task id, peer id), as a share of all hashes, is below a
threshold. It starts at :data:`FACTOR` times ``max-nodes`` over the size of the network, and doubles with each
eighth. A network that is no larger than that answers at once.

The size is the client's estimate, in its announcement: the peers that it knows (of 1,024 at most). One that
is too small brings more answers, one that is too large brings them later; both are the client's own affair.
"""

from __future__ import annotations

import hashlib

FACTOR = 2
"""How many times ``max-nodes`` are expected to answer in the first eighth: not all that could will."""
EIGHTHS = 8
"""Doubling seven times reaches 128 times the first eighth's nodes: an estimate that is a hundred times too
large still brings answers, if late."""


def estimate(known: int, wanted: int) -> int:
    """The size of the network as a client states it.

    Args:
        known: peers that it knows.
        wanted: ``max-nodes``.

    Returns:
        The number of peers; 0 where all of them may answer at once.
    """
    return known if known > wanted * FACTOR else 0


def eighth(task: str, peer: str, *, wanted: int, network: int) -> int | None:
    """The eighth of the waiting period, 0 to 7, in which a node answers; None when it need not.

    Args:
        task: the task's id.
        peer: the node's.
        wanted: ``max-nodes``.
        network: nodes in the network, as the client estimates; 0 for no estimate.
    """
    if network <= wanted * FACTOR:
        return 0
    share = int.from_bytes(hashlib.sha256(f"{task} {peer}".encode()).digest())
    for number in range(EIGHTHS):
        if share * network < (wanted * FACTOR << number) << 256:
            return number
    return None

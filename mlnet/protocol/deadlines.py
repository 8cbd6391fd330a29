"""How long every phase may take, in milliseconds."""

from __future__ import annotations

import msgspec


class Deadlines(msgspec.Struct, frozen=True):
    """The deadlines of a task, after which whoever is missing is left out, or the task ends.

    Attributes:
        draw: more answers, once there are enough, in a network that has more.
        members: CLUSTER_MEMBERS, after the waiting period.
        cycle: the votes of one cycle.
        pings: the measurements.
        ready: replication and the word of every member.
        dataset: DATASET_SELECTION, after READY.
        ballots: the ballots, and again the orders.
        links: the links to all training segments.
        download: a download, plus 1 s for each 64 KiB.
        load: until every trainer has loaded its libraries; the machines' matter, not the links'.
        rendezvous: until the trainers have found each other.
        lost: a member whose connection is gone to come back, before the first step of training.
        step: without a step of training.
        completion: the results of the others, after the first.
        rewards: the signatures under the split.
        offer: the model of a client that is gone.
        grace: how much longer a member waits for the client's word than the client waits for the member's.
    """

    draw: int = 2_000
    members: int = 30_000
    cycle: int = 10_000
    pings: int = 20_000
    ready: int = 20_000
    dataset: int = 120_000
    ballots: int = 10_000
    links: int = 60_000
    download: int = 60_000
    load: int = 60_000
    rendezvous: int = 60_000
    lost: int = 5_000
    step: int = 120_000
    completion: int = 20_000
    rewards: int = 30_000
    offer: int = 86_400_000
    grace: int = 30_000

    def scaled(self, patience: float) -> Deadlines:
        """The deadlines that depend on links, multiplied: for slow ones, or to fail fast."""
        scaled = {
            name: max(1, int(getattr(self, name) * patience))
            for name in self.__struct_fields__
            if name not in ("load", "offer")
        }
        return msgspec.structs.replace(self, **scaled)

    def fetch(self, size: int) -> int:
        """How long a download of so many bytes may take."""
        return self.download + 1000 * size // 65536

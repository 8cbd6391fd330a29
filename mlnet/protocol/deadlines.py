"""How long every phase may take, in milliseconds.

The values are for home and office links: a message that is lost with its connection is resent after a redial,
which takes a few seconds. ``--patience`` multiplies what depends on links (:meth:`Deadlines.scaled`).
"""

from __future__ import annotations

import msgspec


class Deadlines(msgspec.Struct, frozen=True):
    """The deadlines of a task, after which whoever is missing is left out, or the task ends.

    All are in milliseconds. Each says what it covers and what fails when it is halved.

    Attributes:
        draw: more answers, once there are enough, in a network that has more. Halved, nodes with slow links
            answer after the draw and never take part.
        members: CLUSTER_MEMBERS, after the waiting period. It covers a redial and a relay. Halved, a node
            whose connection has just broken leaves a task that has chosen it.
        cycle: the votes of one cycle: one message each way, and one redial. Halved, a voter whose connection
            breaks once is left out, and the cluster forms anew.
        pings: the measurements. Half of it is shared equally among the members to ping, one after another:
            2.5 s each in a committee of five, for a connection and nine round trips. Halved, links of more
            than 125 ms count as unreachable.
        ready: replication, which gets three quarters of it, and the word of every member. Halved, a slave
            whose connection to the master has to be dialled first is blamed for it.
        dataset: DATASET_SELECTION, after READY. The client may take ``ready`` twice, since it passes on what
            the silent may lack; the rest covers delivery. Halved, little is left for a redial before members
            give up.
        ballots: the ballots, and again the orders; like ``cycle``. Halved, a ballot that is resent once
            counts as missing, and its sender is not paid for the committee's work.
        links: the links to all training segments, which the committee forwards to the workers: two deliveries
            of up to ten messages. Halved, a worker that is reached through a relay may lack one.
        download: a download, plus 1 s for each 64 KiB: 0.5 Mbit/s is the slowest link that can take part.
            Halved, a holder that does not answer leaves no time to ask another.
        load: until every trainer has loaded its libraries: tens of seconds for PyTorch from a cold disk.
            This depends on machines, not on links. Halved, small virtual machines fail at their first task.
        rendezvous: until the trainers have found each other through Redis. All start at different times,
            by as much as their downloads differ. Halved, one slow download ends the task.
        lost: a member whose connection is gone to come back, before the first step of training. Halved, one
            failed redial ends the task; doubled, the others wait in vain for that much longer.
        step: without a step of training. Halved, a large model on a slow processor counts as stalled.
        completion: the results of the others, after the first. All finish the same step, so it covers writing
            the model and one delivery. Halved, the client may score before it has every result, and pays by
            the majority's all the same.
        rewards: the signatures under the split; like ``members``. Halved, more tasks end with a split that
            only the client has signed, until the others' signatures arrive.
        offer: the model of a client that is gone: a day, for a machine that is switched off overnight.
        grace: how much longer a member waits for the client's word than the client waits for the member's. It
            must exceed ``ready``, by which a client extends its wait when it passes evidence on. Halved,
            members leave a cluster that their client is about to form anew.
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
        """The deadlines with those that depend on links multiplied: for slow links, or to fail fast.

        Args:
            patience: the factor. ``load`` depends on machines, and ``offer`` on people: they stay.
        """
        scaled = {
            name: max(1, int(getattr(self, name) * patience))
            for name in self.__struct_fields__
            if name not in ("load", "offer")
        }
        return msgspec.structs.replace(self, **scaled)

    def fetch(self, size: int) -> int:
        """How long (ms) a download may take.

        Args:
            size: bytes.
        """
        return self.download + 1000 * size // 65536

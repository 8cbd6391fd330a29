"""What once went wrong, and must not again."""

from __future__ import annotations

from random import Random

import pytest

from mlnet.protocol.client.machine import Client
from mlnet.protocol.commands import Send
from mlnet.protocol.decisions.answering import FACTOR
from mlnet.protocol.events import CancelRequested
from mlnet.protocol.wire.messages import ClusterMembers
from mlnet.simulation.faults import Faults
from mlnet.simulation.party import SimulatedParty
from mlnet.simulation.scenario import Run, Scenario
from mlnet.simulation.timeline import SECOND

PLACES = 8


def client_of(run: Run) -> tuple[SimulatedParty, Client]:
    (party,) = run.world.clients()
    assert isinstance(party.machine, Client)
    return party, party.machine


@pytest.mark.parametrize("share", [20, 33])
def test_who_tells_some_alone_has_nobody_else_dropped_as_silent(share: int) -> None:
    """A member that keeps its words from the others makes them silent: before the client drops the silent it
    gives them what they may lack."""
    several = 0
    for seed in range(40):
        run = Run(Scenario(seed, f"hostile:selective@{share}", nodes=6), keep=10)
        assert not run.go().violation
        _, client = client_of(run)
        for peer, reason in client.dropped.items():
            # What cannot be told from a fault: the slave that says nothing to its master cannot replicate it.
            excused = run.world.parties[peer].hostile or "cannot be replicated" in reason
            assert excused, f"seed {seed}: {run.world.names[peer]} {reason}"
        several += len(client.attempted.poll().cycles) > 1
    assert several > 5


def test_a_long_list_of_members_goes_to_the_members_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """To all of the 400 who answered, it would be fifty times as much; the others are free soon after the end
    of the waiting period all the same."""
    cluster: dict[str, object] = {"waiting-period": "15m", "max-nodes": PLACES}
    run = Run(Scenario(1, "calm", nodes=400, cluster=cluster, known=FACTOR * PLACES + 1))
    told: list[str] = []
    send = run.world.network.send

    def watched(sender: SimulatedParty, command: Send) -> None:
        if isinstance(command.message.body, ClusterMembers):
            told.extend(command.to)
        send(sender, command)

    monkeypatch.setattr(run.world.network, "send", watched)
    outcome = run.go()
    _, client = client_of(run)
    assert outcome.states == {"completed": 1}
    assert len(client.answers) > 10 * FACTOR * PLACES
    assert len(client.members) == PLACES
    assert sorted(told) == sorted(client.members)
    assert outcome.traffic["client_sent_bytes"] < 1 << 20
    free = [peer for peer in client.answers if peer not in client.members]
    ends = [run.world.ends[peer, client.task] for peer in free]
    assert {(end.state, end.reason) for end in ends} == {("released", "the client has enough nodes")}


def test_a_machine_that_is_lost_with_its_disk_stays_lost() -> None:
    """Its identity is gone: a process that came up on it would sign the words of another a second time."""
    for seed in (1424, 1655):  # a crash before the loss had a start of the process to come
        assert not Run(Scenario(seed, "disks"), keep=10).go().violation
    run = Run(Scenario(1, "calm", nodes=4))
    run.world.run(until_step=40)
    lost = run.world.nodes()[0]
    assert lost.disk
    faults = Faults(run.world, ("disk",), 0, Random(1), run._replace)
    faults._disk(lost)
    run.world.run(until_step=90)
    run.world.restart(lost)
    assert not lost.alive
    assert f"{lost.name}.1" in {node.name for node in run.world.nodes()}
    assert not run.go().violation


def test_a_paused_nodes_measurement_and_its_deadline_come_in_their_order() -> None:
    """A node that is stopped while it measures keeps its deadline until it goes on, and ends by it then."""
    cluster: dict[str, object] = {"waiting-period": "10s", "max-committee-size": 2, "sealed-votes": False}
    run = Run(Scenario(0, "calm", nodes=5, cluster=cluster), keep=200)
    run.world.run(until_step=26)
    party, client = client_of(run)
    run.world.give(party, client.task, CancelRequested("enough"))
    measuring = run.world.nodes()[0]
    run.world.pause(measuring)
    run.world.run(until=run.world.now + 60 * SECOND)
    run.world.resume(measuring)
    run.world.run()
    assert not measuring.machines()

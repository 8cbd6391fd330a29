"""What an audit derives from messages is what the parties decided, and nobody honest is called a liar."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlnet.driver.transcript import Transcript, read
from mlnet.errors import DataError
from mlnet.identity.keys import Identity
from mlnet.protocol.audit import Audit, audit
from mlnet.protocol.client.machine import Client
from mlnet.protocol.commands import Send
from mlnet.protocol.events import Received
from mlnet.protocol.signer import IdentitySigner
from mlnet.protocol.wire.messages import TaskFailedBody
from mlnet.simulation.party import SimulatedParty
from mlnet.simulation.scenario import Run, Scenario


def audited(faults: str, seed: int) -> list[tuple[Run, SimulatedParty, Audit]]:
    run = Run(Scenario(seed, faults), keep=10)
    run.world.transcribe()
    assert not run.go().violation
    return [
        (run, run.world.parties[peer], audit(messages, run.world.parties[peer].signer))
        for (peer, _), messages in run.world.transcripts().items()
        if not run.world.parties[peer].hostile
    ]


@pytest.mark.parametrize("faults", ["calm", "loss", "chaos", "busy", "hostile", "hostile-lossy"])
def test_an_audit_derives_what_the_client_decided_and_blames_no_honest_party(faults: str) -> None:
    for seed in range(6):
        for run, party, found in audited(faults, seed):
            liars = {lie.peer for lie in found.lies}
            assert all(run.world.parties[peer].hostile for peer in liars), f"seed {seed}: {found.lies}"
            machine = party.machine
            if isinstance(machine, Client) and machine.scored is not None:
                decided = machine.attempted.decision().ready
                assert found.missing == []
                assert (found.committee, found.master, found.slave) == (
                    decided.committee,
                    decided.master,
                    decided.slave,
                )
                assert (found.order, found.held_out) == (machine.order, machine.held_out)
                assert found.rewards == machine.split


def test_every_member_derives_the_rewards_from_what_it_saw() -> None:
    """A member holds its own result alone, and the splits that the committee signed."""
    (client,) = {party.peer for _, party, _ in audited("calm", 1) if isinstance(party.machine, Client)}
    found = {party.peer: audit_ for _, party, audit_ in audited("calm", 1)}
    due = found[client]
    assert len(found) > 3
    for peer, audit_ in found.items():
        assert sorted(audit_.committee) == sorted(due.committee)
        if peer == client or peer in due.committee:
            assert (audit_.committee, audit_.master, audit_.slave) == (due.committee, due.master, due.slave)
            assert (audit_.order, audit_.rewards, audit_.settled) == (due.order, due.rewards, True)
        else:
            assert audit_.missing == [
                f"master and slave: no CLUSTER_DATABASE_SELECTION of {', '.join(sorted(due.committee))}"
            ]


def lies(faults: str, seeds: int = 40) -> set[str]:
    found = set()
    for seed in range(seeds):
        for run, _, audit_ in audited(faults, seed):
            assert all(run.world.parties[lie.peer].hostile for lie in audit_.lies), f"seed {seed}"
            found |= {lie.what.split(" (")[0] for lie in audit_.lies}
    return found


@pytest.mark.parametrize(
    ("faults", "what"),
    [
        ("hostile:result", "stated another result than more than half of the members"),
        ("hostile:ballot", "cast a ballot that does not open what it had committed to"),
        ("hostile:ready", "announced a decision that does not follow from the evidence"),
        ("hostile:equivocate", "signed two different CLUSTER_READY"),
        ("hostile-client:wrong-links", "handed out another segment 0 than the voted order has"),
    ],
)
def test_a_lie_is_found(faults: str, what: str) -> None:
    assert what in lies(faults)


def write(path: Path) -> int:
    run = Run(Scenario(3, "real-keys"), keep=10)
    run.world.transcribe()
    run.go()
    client = run.world.clients()[0]
    assert isinstance(client.machine, Client)
    messages = run.world.transcripts()[client.peer, client.machine.task]
    transcript = Transcript(path, client.peer, client.machine.task)
    for message in messages:
        own = message.sender == client.peer
        sends = [Send((client.peer,), message, 0)] if own else []
        transcript.step(None if own else Received(message), sends)
    transcript.close()
    return len({message.envelope for message in messages})


SIGNER = IdentitySigner(Identity.from_seed(bytes(32)))


def test_a_transcript_is_read_as_it_was_written_and_can_be_continued(tmp_path: Path) -> None:
    path = tmp_path / "task.jsonl"
    count = write(path)
    assert len(read(path, SIGNER.verify)) == count
    with path.open("ab") as file:
        file.write(b'{"chain": "cut short')
    write(path)
    assert len(read(path, SIGNER.verify)) == count
    assert audit(read(path, SIGNER.verify), SIGNER).settled


@pytest.mark.parametrize("change", ["drop", "swap", "edit"])
def test_a_changed_transcript_is_noticed(tmp_path: Path, change: str) -> None:
    path = tmp_path / "task.jsonl"
    write(path)
    lines = path.read_text().splitlines(keepends=True)
    if change == "drop":
        del lines[3]
    elif change == "swap":
        lines[3], lines[4] = lines[4], lines[3]
    else:
        lines[3] = lines[3].replace('\\"sent\\":1', '\\"sent\\":2')
    path.write_text("".join(lines))
    with pytest.raises(DataError):
        read(path, SIGNER.verify)


def test_the_command_says_what_follows_and_fails_when_somebody_lied(tmp_path: Path) -> None:
    path = tmp_path / "task.jsonl"
    write(path)
    done = subprocess.run(
        [sys.executable, "-m", "mlnet", "replay", str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("\nsegment ") == 10
    assert "settled    yes" in done.stdout
    signer = IdentitySigner(Identity.from_seed(b"\1" * 32))
    last = read(path, SIGNER.verify)[-1]
    liar = Transcript(path, signer.peer_id, last.task)
    for reason in ("one", "another"):
        words = signer.sign(TaskFailedBody(reason), task=last.task, attempt=1, sent=0)
        liar.step(None, [Send(("x",), words, 0)])
    liar.close()
    failed = subprocess.run(
        [sys.executable, "-m", "mlnet", "replay", str(path)], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 42
    assert f"lie        {signer.peer_id} signed two different TASK_FAILED (attempt 1)" in failed.stdout

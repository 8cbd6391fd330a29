"""Whole tasks over real processes, sockets and Redis servers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.cluster import EXAMPLE, Mission, Watch, mission

from mlnet.client import request
from mlnet.client.result import Result
from mlnet.driver.messenger import Wire
from mlnet.node.ledger import Ledger
from mlnet.protocol.signer import IdentitySigner
from mlnet.protocol.wire.messages import NewMlTask
from mlnet.util import clock

PAYMENT = 100_000_000
pytestmark = pytest.mark.timeout(240)


def check_completed(result: Mapping[str, Any], nodes: int) -> None:
    assert result["state"] == "completed", result["reason"]
    assert len(result["nodes"]) == nodes
    assert result["master"] != result["slave"]
    assert {result["master"], result["slave"]} <= set(result["committee"])
    assert len(result["segments"]) == 10
    assert result["held_out"] == result["segments"][8:]
    assert sum(result["rewards"].values()) == result["payment"] == PAYMENT
    assert result["accuracy"]["held_out"] > 0.8


async def check_replay(net: Mission, result: Mapping[str, Any]) -> None:
    """Client and nodes each hold the messages from which everything follows that the task ended with."""
    audits = await net.replayed(result["task"])
    assert set(audits) == {"client", *(node.data_dir.name for node in net.nodes)}
    for party, audit in audits.items():
        assert audit["lies"] == audit["missing"] == [], party
        for what in ("committee", "master", "slave", "held_out", "rewards"):
            assert audit[what] == result[what], (party, what)
        assert audit["order"] == result["segments"], party
        assert audit["settled"], party
    assert audits["client"]["model"] == result["model"]["attested"]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_from_the_definition_to_the_reward_as_a_user_does_it() -> None:
    async with mission(3) as net:
        file = net.definition(max_nodes=3)
        status, out, err = await net.submit(file, "--json", "--output", "out")
        assert status == 0, err
        result = json.loads(out)
        check_completed(result, 3)
        await check_replay(net, result)
        assert names(net.base / "out") == ["model.safetensors", "result.json"]
        assert json.loads((net.base / "out" / "result.json").read_text()) == result
        assert result["model"]["path"] == str(net.base / "out" / "model.safetensors")

        data = str(EXAMPLE.with_name("digits.npz"))
        status, out, err = await net.run("predict", result["model"]["path"], data, "--json")
        assert status == 0, err
        assert len(json.loads(out)) > 0

        shares = {}
        for node in net.nodes:
            status, out, err = await net.run("rewards", "--data-dir", str(node.data_dir), "--json")
            assert status == 0, err
            (receipt,) = json.loads(out)
            assert receipt["state"] == "settled"
            shares[node.peer_id] = receipt["amount"]
        assert shares == result["rewards"]

        again = net.definition(max_nodes=3)
        status, out, err = await net.submit(again, "--json")
        assert status == 0, err
        second = json.loads(out)
        check_completed(second, 3)
        assert second["task"] != result["task"]
        assert [len(net.receipts(node)) for node in net.nodes] == [2, 2, 2]


async def announce(net: Mission, watch: Watch, file: Path, created: int | None = None) -> Result:
    """One task by the Python interface; the waiting period ends when all nodes have answered."""
    async with net.client() as client:
        submission = await client.submit(file, output=net.base / "out", created=created, observe=watch)
        await watch.answers(len(net.nodes))
        submission.close_enrolment()
        return await submission.result()


async def test_a_vote_that_only_the_hash_order_ends() -> None:
    watch = Watch()
    async with mission(3) as net:
        result = await announce(net, watch, net.definition(max_committee_size=2, min_committee_size=2))
        assert result.state == "completed", result.reason
        assert [cycle["number"] for cycle in watch.of("cycle")] == list(range(8))
        assert watch.of("committee")[0]["reason"] == "seats filled in hash order after 8 cycles"
        assert len(result.committee) == 2
        assert len(result.nodes) == 3
        audits = await net.replayed(result.task)
        assert len(audits) == 4
        for audit in audits.values():  # one of them is a worker's, who sees the votes and no more
            assert audit["lies"] == []
            assert set(audit["committee"]) == set(result.committee)


async def test_a_vote_of_several_cycles_that_a_tie_ends() -> None:
    """Four candidates for two seats, at a moment at which the first two cycles decide nothing."""
    watch = Watch()
    async with mission(4) as net:
        file = net.definition(max_committee_size=2, min_committee_size=2)
        async with net.client() as client:
            text = request.read(file).text
            created = next(
                moment
                for moment in range(clock.now(), clock.now() + 10_000)
                if ones(net, text, client.wire, moment) == [False, False, True]
            )
            submission = await client.submit(file, output=net.base / "out", created=created, observe=watch)
            await watch.answers(4)
            submission.close_enrolment()
            result = await submission.result()
        assert result.state == "completed", result.reason
        assert [cycle["number"] for cycle in watch.of("cycle")] == [0, 1, 2]
        assert "a tie" in watch.of("cycle")[2]["reason"]
        assert set(result.committee) == set(watch.of("cycle")[2]["kept"])


def ones(net: Mission, text: str, wire: Wire, created: int) -> list[bool]:
    """Whether two of the four nodes will vote 1 in cycles 0, 1 and 2 of a task."""
    task = wire.signer.sign(NewMlTask(text, wire.addresses(), created), sent=created).task
    signers = [IdentitySigner(net.identity(node)) for node in net.nodes]
    return [sum(node.secret(f"vote {task} 0 {cycle}")[-1] & 1 for node in signers) == 2 for cycle in range(3)]


async def test_a_node_that_dies_after_its_answer_leads_to_a_new_attempt_without_it() -> None:
    watch = Watch()
    async with mission(4, patience=0.2) as net:
        async with net.client() as client:
            submission = await client.submit(net.definition(), output=net.base / "out", observe=watch)
            await watch.answers(4)
            dead = net.nodes[3]
            dead.kill()
            await dead.process.wait()
            submission.close_enrolment()
            result = await submission.result()
        assert result.state == "completed", result.reason
        assert submission.machine.attempt == 2
        assert dead.peer_id not in result.nodes
        assert len(result.nodes) == 3
        assert [retry["without"] for retry in watch.of("retry")] == [(dead.peer_id,)]


async def test_a_node_that_is_stopped_says_so_and_the_cluster_forms_without_it_at_once() -> None:
    watch = Watch()
    async with mission(3) as net:
        async with net.client() as client:
            submission = await client.submit(net.definition(), output=net.base / "out", observe=watch)
            await watch.answers(3)
            assert await net.nodes[2].stop() == 0
            await watch.until(lambda: bool(watch.of("note")))
            submission.close_enrolment()
            result = await submission.result()
        assert result.state == "completed", result.reason
        assert set(result.nodes) == {node.peer_id for node in net.nodes[:2]}


async def test_two_clients_at_the_same_time() -> None:
    one, two = Watch(), Watch()
    async with mission(4) as net:
        file = net.definition(max_nodes=4, waiting_period="6s", min_nodes=2)
        async with net.client("c1") as first, net.client("c2") as second:
            a = await first.submit(file, output=net.base / "out1", observe=one)
            b = await second.submit(file, output=net.base / "out2", observe=two)
            results = [await a.result(), await b.result()]
        completed = [result for result in results if result.state == "completed"]
        assert completed
        for result in results:
            if result.state != "completed":
                assert result.code == "TooFewNodes"
                assert "busy with another task" in result.reason
        taken = [set(result.nodes) for result in completed]
        assert not (len(taken) == 2 and taken[0] & taken[1])
        for node in net.nodes:
            assert all(receipt.state == "settled" for receipt in Ledger(node.data_dir / "ledger").receipts())

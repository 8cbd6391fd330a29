"""Envelopes between nodes on loopback: acknowledged, resent, relayed, refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.network import LOOPBACK, SECONDS, Node, accepted, join, nodes, running

from mlnet.errors import LocalProtocolError
from mlnet.identity.envelope import Envelope
from mlnet.identity.keys import Identity
from mlnet.net.network import Network
from mlnet.net.types import MAX_ENVELOPE_BYTES, Limits


async def test_an_envelope_arrives_byte_for_byte_and_is_acknowledged() -> None:
    async with nodes(2) as (a, b):
        await join(a, b)
        text = "{v: 1, body: {name: 'é \U0001f600'}}"
        assert await accepted(a.network.send(a.envelope(text), b.id, timeout=SECONDS))
        assert b.received == [(text, a.id, False)]


async def test_both_directions_work_over_one_connection() -> None:
    async with nodes(2) as (a, b):
        await join(a, b)
        # b knows no address of a: what it sends goes over the connection that a has dialled.
        assert b.network.known_peers() == {}
        assert await accepted(b.network.send(b.envelope("hello"), a.id, timeout=SECONDS))
        assert a.received == [("hello", b.id, False)]


async def test_an_unconnected_peer_is_dialled_at_a_known_address() -> None:
    async with nodes(2) as (a, b):
        a.network.add_addresses(b.id, b.network.addresses())
        assert await accepted(a.network.send(a.envelope("hello"), b.id, timeout=SECONDS))


async def test_many_envelopes_arrive_in_order() -> None:
    async with nodes(2) as (a, b):
        await join(a, b)
        texts = [str(index) for index in range(700)]
        sent = [a.network.send(a.envelope(text), b.id, timeout=SECONDS) for text in texts]
        assert all(await asyncio.gather(*sent))
        assert b.texts == texts


async def test_the_largest_envelope_passes_and_a_larger_one_is_our_own_error() -> None:
    async with nodes(2) as (a, b):
        await join(a, b)
        largest = "é" * (MAX_ENVELOPE_BYTES // 2)
        assert await accepted(a.network.send(a.envelope(largest), b.id, timeout=SECONDS))
        assert b.texts == [largest]
        with pytest.raises(LocalProtocolError, match="at most 1048576"):
            a.network.send(a.envelope(largest + "x"), b.id, timeout=SECONDS)
        with pytest.raises(LocalProtocolError):
            a.network.publish(a.envelope(largest + "x"))
        with pytest.raises(LocalProtocolError):
            a.network.send(a.envelope("x"), a.id, timeout=SECONDS)


async def test_simultaneous_dials_leave_a_working_pair() -> None:
    async with nodes(2) as (a, b):
        await asyncio.gather(a.network.connect(b.address), b.network.connect(a.address))
        await a.until_connected(b)
        await b.until_connected(a)
        sent = (
            a.network.send(a.envelope("from a"), b.id, timeout=SECONDS),
            b.network.send(b.envelope("from b"), a.id, timeout=SECONDS),
        )
        assert all(await asyncio.gather(*sent))
        assert (a.peers, b.peers) == ({b.id}, {a.id})


async def test_an_envelope_is_resent_when_the_peer_comes_back_at_its_port() -> None:
    async with nodes(1) as (a,):
        b = Node()
        async with running(b):
            await join(a, b)
            port = b.address.split("/")[4]
            assert await accepted(a.network.send(a.envelope("before"), b.id, timeout=SECONDS))
        await a.until_alone()
        waiting = a.network.send(a.envelope("meanwhile"), b.id, timeout=SECONDS)
        again = Node(b.identity)
        async with running(again, listen=(f"/ip4/127.0.0.1/tcp/{port}",)):
            assert await accepted(waiting)
            assert again.texts == ["meanwhile"]
            await a.until_connected(again)


async def test_what_was_on_its_way_when_the_peer_died_is_sent_again() -> None:
    """The peer takes frames but never reads them to the end: its process is gone before it acknowledges."""
    async with nodes(1) as (a,):
        b = Node()
        async with running(b, limits=Limits(envelopes_per_second=1.0)):
            await join(a, b)
            port = b.address.split("/")[4]
            sent = [a.network.send(a.envelope(str(index)), b.id, timeout=SECONDS) for index in range(6)]
            await b.until(lambda: len(b.received) >= 2)
        again = Node(b.identity)
        async with running(again, listen=(f"/ip4/127.0.0.1/tcp/{port}",)):
            assert all(await asyncio.gather(*sent))
            assert {*b.texts, *again.texts} == {str(index) for index in range(6)}
            assert "5" in again.texts
        assert (await a.network.metrics()).value("mlnet_envelopes_resent_total") > 0


async def test_nobody_there_is_false_at_the_deadline() -> None:
    async with nodes(1) as (a,):
        stranger = Identity.generate().peer_id
        assert not await accepted(a.network.send(a.envelope("x"), stranger, timeout=0.3))
        assert (await a.network.metrics()).value("mlnet_envelopes_waiting_bytes") == 0


async def test_what_waits_at_the_end_is_false() -> None:
    async with nodes(1) as (a,):
        futures = [
            a.network.send(a.envelope("x"), Identity.generate().peer_id, timeout=60),
            a.network.send(a.envelope("x"), Identity.generate().peer_id, timeout=60, gossip_fallback=True),
        ]
    assert [await accepted(future) for future in futures] == [False, False]
    assert not await accepted(a.network.send(a.envelope("x"), Identity.generate().peer_id, timeout=60))


async def test_a_third_peer_carries_what_cannot_go_directly() -> None:
    async with nodes(3) as (a, b, c):
        await join(a, b)
        await join(b, c)
        assert await accepted(a.network.send(a.envelope("by way of b"), c.id, timeout=SECONDS, via=[b.id]))
        assert c.received == [("by way of b", b.id, False)]
        assert b.received == []


async def test_the_next_helper_is_asked_when_the_first_cannot() -> None:
    async with nodes(4) as (a, useless, b, c):
        await join(a, useless)
        await join(a, b)
        await join(b, c)
        sent = a.network.send(a.envelope("x"), c.id, timeout=SECONDS, via=[useless.id, b.id])
        assert await accepted(sent)


async def test_what_is_carried_goes_one_hop_only() -> None:
    async with nodes(4) as (a, b, c, d):
        await join(a, b)
        await join(b, c)
        await join(c, d)
        assert not await accepted(a.network.send(a.envelope("x"), d.id, timeout=1.0, via=[b.id]))
        assert d.received == []


async def test_the_addressee_refuses_what_is_carried_too() -> None:
    async with nodes(3) as (a, b, c):
        await join(a, b)
        await join(b, c)
        assert not await accepted(a.network.send(a.envelope("garbage"), c.id, timeout=SECONDS, via=[b.id]))
        # The carrier is not shut out for what it could not read.
        assert await accepted(b.network.send(b.envelope("fine"), c.id, timeout=SECONDS))


async def test_gossip_is_the_last_resort() -> None:
    async with nodes(4) as (a, b, c, d):
        await join(a, b)
        await join(b, c)
        await join(c, d)
        sent = a.network.send(a.envelope("far"), d.id, timeout=SECONDS, gossip_fallback=True)
        await d.until(lambda: "far" in d.texts)
        assert d.received == [("far", c.id, True)]
        sent.cancel()


async def test_garbage_is_refused_and_its_sender_shut_out_for_a_while() -> None:
    async with nodes(1, Limits(garbage_score=2.5, ban_seconds=0.5)) as (a,), nodes(1) as (b,):
        await join(b, a)
        for _ in range(2):
            assert not await accepted(b.network.send(b.envelope("garbage"), a.id, timeout=SECONDS))
        assert a.peers == {b.id}
        third = b.network.send(b.envelope("garbage"), a.id, timeout=SECONDS)
        await a.until_alone()
        assert await accepted(third) is False or third.done()
        # The ban expires, and the sender is let in again.
        assert await accepted(b.network.send(b.envelope("sorry"), a.id, timeout=SECONDS))
        assert a.texts == ["sorry"]


async def test_what_is_not_for_us_is_acknowledged() -> None:
    async with nodes(2) as (a, b):
        await join(a, b)
        assert await accepted(a.network.send(a.envelope("other"), b.id, timeout=SECONDS))


async def test_a_signature_of_another_length_is_garbage() -> None:
    async with nodes(2) as (a, b):
        await join(a, b)
        assert not await accepted(a.network.send(Envelope("x", b"short"), b.id, timeout=SECONDS))
        assert b.received == []


async def test_a_full_outbox_says_so_at_once() -> None:
    async with nodes(1, Limits(outbox_envelopes=2)) as (a,):
        stranger = Identity.generate().peer_id
        sent = [a.network.send(a.envelope(str(index)), stranger, timeout=60) for index in range(3)]
        assert not await accepted(sent[2])
        assert not sent[0].done()


async def test_a_named_peer_is_dialled_again_whenever_it_comes_back() -> None:
    b = Node()
    async with running(b):
        address = b.address
    a = Node()
    async with running(a, peers=(address,)):
        for _ in range(2):
            again = Node(b.identity)
            async with running(again, listen=(address.partition("/p2p/")[0],)):
                await a.until_connected(again)
            await a.until_alone()


async def test_start_and_stop_are_quick_and_leave_nothing(tmp_path: Path) -> None:
    node = Node()
    loop = asyncio.get_running_loop()
    network = Network(node.identity, node.handlers(), listen=LOOPBACK, runtime_dir=tmp_path / "run")
    await network.stop()
    started = loop.time()
    await network.start()
    assert loop.time() - started < 1.0
    started = loop.time()
    await network.stop()
    await network.stop()
    assert loop.time() - started < 3.0
    assert list((tmp_path / "run").iterdir()) == []

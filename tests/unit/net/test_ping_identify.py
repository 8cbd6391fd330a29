"""Ping and identify over streams in memory, on a clock that jumps."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.utils.varint import encode_varint_prefixed
from multiaddr import Multiaddr

from mlnet.errors import PeerUnreachable, TransportError
from mlnet.net.muxer.base import Stream
from mlnet.net.transport import ping_identify

KEY = create_new_key_pair(bytes(32)).public_key
OTHER_KEY = create_new_key_pair(bytes([1]) * 32).public_key


class MemoryStream(Stream):
    """One end of a stream in memory; ``remote`` is the TCP address at the other end."""

    def __init__(self, raw: trio.StapledStream, remote: tuple[str, int] | None = None) -> None:
        self._raw, self._remote = raw, remote
        self.muxed_conn = SimpleNamespace(peer_id=ID.from_pubkey(KEY))  # type: ignore[assignment]
        self.was_reset = self._closed = self._ended = False

    @property
    def is_closed(self) -> bool:
        return self.was_reset or (self._closed and self._ended)

    async def read(self, n: int | None = None) -> bytes:
        data = bytes(await self._raw.receive_some(n))
        if not data:
            self._ended = True
            raise MuxedStreamEOF("end of file")
        return data

    async def write(self, data: bytes) -> None:
        await self._raw.send_all(data)

    async def close(self) -> None:
        self._closed = True
        await self._raw.send_eof()

    async def reset(self) -> None:
        self.was_reset = True
        await self._raw.aclose()

    async def splice(self, sock: trio.SocketStream) -> None:
        raise NotImplementedError

    def get_remote_address(self) -> tuple[str, int] | None:
        return self._remote


def streams(remote: tuple[str, int] | None = None) -> tuple[MemoryStream, MemoryStream]:
    left, right = trio.testing.memory_stream_pair()
    return MemoryStream(left), MemoryStream(right, remote)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(1000):
            await test()

    trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_ping_comes_back_and_both_sides_close() -> None:
    async def test() -> None:
        ours, theirs = streams()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ping_identify.serve_ping, theirs)
            assert await ping_identify.ping(ours) >= 0
        assert ours.is_closed
        assert theirs.is_closed

    run(test)


def test_a_ping_of_many_pieces_is_one_ping() -> None:
    async def test() -> None:
        ours, theirs = streams()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ping_identify.serve_ping, theirs)
            payload = bytes(range(64))
            for position in range(0, 64, 7):
                await ours.write(payload[position : position + 7])
                await trio.sleep(1)
            received = b""
            while len(received) < 64:
                received += await ours.read(64)
            assert received == payload
            await ours.close()

    run(test)


def test_a_stream_is_pinged_a_bounded_number_of_times_and_seconds() -> None:
    async def test() -> None:
        ours, theirs = streams()
        pings = b"x" * ping_identify.PING_BYTES * (ping_identify.PINGS_PER_STREAM + 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.write, pings)
            await ping_identify.serve_ping(theirs)
            await theirs.close()
            received = 0
            with contextlib.suppress(MuxedStreamEOF):
                while received < len(pings):
                    received += len(await ours.read(len(pings)))
        assert received == ping_identify.PING_BYTES * ping_identify.PINGS_PER_STREAM

        _, idle = streams()
        started = trio.current_time()
        await ping_identify.serve_ping(idle)
        assert trio.current_time() - started == pytest.approx(ping_identify.PING_STREAM_SECONDS)
        assert not idle.is_closed

    run(test)


def test_another_answer_is_no_pong() -> None:
    async def test() -> None:
        ours, theirs = streams()
        await theirs.write(bytes(ping_identify.PING_BYTES))
        with pytest.raises(ValueError, match="not those that were sent"):
            await ping_identify.ping(ours)

    run(test)


@pytest.mark.parametrize(
    ("remote", "observed"),
    [
        (("192.0.2.7", 4001), "/ip4/192.0.2.7/tcp/4001"),
        (("::ffff:192.0.2.7", 4001), "/ip4/192.0.2.7/tcp/4001"),
        (("fe80::1%eth0", 4001), "/ip6/fe80::1/tcp/4001"),
        (None, ""),
    ],
)
def test_what_a_node_states_is_what_its_peer_reads(remote: tuple[str, int] | None, observed: str) -> None:
    async def test() -> None:
        ours, theirs = streams(remote)
        addresses = [f"/ip4/192.0.2.1/tcp/{port}" for port in range(1, 41)]
        found: list[ping_identify.Identified] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                ping_identify.serve_identify, theirs, KEY.serialize(), addresses, [ping_identify.PING, "/x/1"]
            )
            found.append(await ping_identify.identify(ours))
        assert found == [
            ping_identify.Identified(
                ping_identify.AGENT,
                (ping_identify.PING, "/x/1"),
                tuple(addresses[: ping_identify.MAX_ADDRESSES]),
                observed,
            )
        ]
        assert ours.is_closed
        assert theirs.is_closed

    run(test)


def test_a_peer_that_does_not_hang_up_is_not_waited_for() -> None:
    async def test() -> None:
        _, theirs = streams()
        started = trio.current_time()
        await ping_identify.serve_identify(theirs, KEY.serialize(), [], [])
        assert trio.current_time() - started == pytest.approx(ping_identify.ANSWER_SECONDS)
        assert not theirs.is_closed

    run(test)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (encode_varint_prefixed(bytes(ping_identify.MAX_IDENTIFY_BYTES + 1)), "exceeds maximum"),
        (b"\xff" * 10, "exceeds maximum"),
        (encode_varint_prefixed(b"\xff\xff"), "not a statement"),
        (
            encode_varint_prefixed(Identify(public_key=OTHER_KEY.serialize()).SerializeToString()),
            "another peer",
        ),
        (encode_varint_prefixed(b""), "another peer"),
        (b"\x09half", "end of file"),
    ],
    ids=["too long", "no length", "garbage", "another key", "no key", "half"],
)
def test_a_bad_statement_is_refused(answer: bytes, error: str) -> None:
    async def test() -> None:
        ours, theirs = streams()
        await theirs.write(answer)
        await theirs.close()
        with pytest.raises((ValueError, BaseLibp2pError), match=error):
            await ping_identify.identify(ours)

    run(test)


def test_malformed_and_surplus_addresses_are_left_out() -> None:
    good = Multiaddr("/ip4/192.0.2.1/tcp/1")
    statement = Identify(
        public_key=KEY.serialize(),
        listen_addrs=[b"\xff\xff", good.to_bytes(), b"", *[good.to_bytes()] * 100],
        observed_addr=b"\xff",
    )

    async def test() -> None:
        ours, theirs = streams()
        await theirs.write(encode_varint_prefixed(statement.SerializeToString()))
        await theirs.close()
        identified = await ping_identify.identify(ours)
        assert identified.addresses == (str(good),) * (ping_identify.MAX_ADDRESSES - 2)
        assert identified.observed == ""

    run(test)


async def nowhere(peer: str, protocol: str, preamble: bytes | None) -> Stream | None:
    return None


def test_asking_ends_by_an_answer_or_by_the_deadline() -> None:
    async def test() -> None:
        with pytest.raises(PeerUnreachable, match="does not speak /ipfs/ping"):
            await ping_identify.ask(nowhere, "peer", ping_identify.PING, ping_identify.ping)
        ours, _ = streams()

        async def open_stream(peer: str, protocol: str, preamble: bytes | None) -> Stream | None:
            return ours

        started = trio.current_time()
        with pytest.raises(TransportError, match=r"peer did not answer /ipfs/ping/1\.0\.0: TooSlowError"):
            await ping_identify.ask(open_stream, "peer", ping_identify.PING, ping_identify.ping)
        assert trio.current_time() - started == pytest.approx(ping_identify.ANSWER_SECONDS)
        assert ours.was_reset

    run(test)

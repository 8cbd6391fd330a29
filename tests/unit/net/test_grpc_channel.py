from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mlnet.net.sending.grpc_channel import CHANNEL_OPTIONS, MAX_MESSAGE_BYTES, SERVER_OPTIONS, uncut
from mlnet.net.types import CHUNK_BYTES, MAX_ENVELOPE_BYTES

CHANNEL: dict[str, Any] = dict(CHANNEL_OPTIONS)
SERVER: dict[str, Any] = dict(SERVER_OPTIONS)


def test_a_silent_peer_is_noticed_within_fifteen_seconds() -> None:
    for options in (CHANNEL, SERVER):
        assert options["grpc.keepalive_permit_without_calls"] == 1
        # Both count: the one ends waiting for a keepalive's answer, the other that of any HTTP/2 ping.
        for name in ("grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms"):
            assert options["grpc.keepalive_time_ms"] + options[name] <= 15_000


def test_the_server_lets_clients_ping_as_often_as_they_do() -> None:
    assert SERVER["grpc.http2.min_ping_interval_without_data_ms"] < CHANNEL["grpc.keepalive_time_ms"]


def test_an_envelope_and_a_chunk_fit_a_message_and_little_more_does() -> None:
    for options in (CHANNEL, SERVER):
        assert options["grpc.max_receive_message_length"] == MAX_MESSAGE_BYTES
    assert max(MAX_ENVELOPE_BYTES, CHUNK_BYTES) < MAX_MESSAGE_BYTES <= 2 * MAX_ENVELOPE_BYTES


class Call:
    """A call whose pending operation ends when the call is cancelled, as grpc's do."""

    def __init__(self) -> None:
        self.operation: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ended = False

    async def read(self) -> str:
        try:
            return await self.operation
        finally:
            self.ended = True

    def cancel(self) -> None:
        asyncio.get_running_loop().call_soon(self.operation.set_exception, RuntimeError("the call is over"))


async def test_an_operation_of_a_call_is_not_cut_off_but_ended_with_its_call() -> None:
    call = Call()
    waiting = asyncio.ensure_future(uncut(call, call.read()))
    await asyncio.sleep(0)
    waiting.cancel()
    async with asyncio.timeout(20):
        await asyncio.wait((waiting,))
    assert waiting.cancelled()
    assert call.ended
    # Not the operation was cancelled: it saw the end of its call.
    assert str(call.operation.exception()) == "the call is over"


async def test_what_an_operation_gives_or_raises_is_passed_on() -> None:
    call = Call()
    call.operation.set_result("frame")
    assert await uncut(call, call.read()) == "frame"
    call = Call()
    call.operation.set_exception(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await uncut(call, call.read())

from __future__ import annotations

from typing import Any

from mlnet.net.channel import CHANNEL_OPTIONS, MAX_MESSAGE_BYTES, SERVER_OPTIONS
from mlnet.net.interface import CHUNK_BYTES, MAX_ENVELOPE_BYTES

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

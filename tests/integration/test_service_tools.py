"""What tools may hand in at the API of a node, and what they may not."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support.network import SECONDS, Node, running

from mlnet.net.network import Network
from mlnet.service.options import ApiOptions
from mlnet.service.peer_service import ToolPeerService
from mlnet.service.server import ApiServers
from mlnet.v1 import peer_pb2, peer_pb2_grpc

DIGEST = "ab" * 32


@asynccontextmanager
async def served(network: Network) -> AsyncIterator[ApiServers]:
    """What a network takes from tools, at an address that asks for no token."""
    with tempfile.TemporaryDirectory(prefix="mlnet-") as directory:
        place = Path(directory)
        options = ApiOptions("127.0.0.1:0", open=True)
        servers = ApiServers(place, place, options, [ToolPeerService(network)])
        await servers.start()
        try:
            yield servers
        finally:
            await servers.stop()


def envelope(yaml: str, signature: bytes = b"") -> peer_pb2.SendRequest:
    return peer_pb2.SendRequest(envelope=peer_pb2.Envelope(yaml=yaml, signature=signature))


async def test_a_tool_hands_in_envelopes_with_a_stock_stub() -> None:
    async with running(Node()) as node, served(node.network) as api:
        signature = bytes(64)

        def call() -> tuple[bool, bool, list[int], list[tuple[int, str]]]:
            with grpc.insecure_channel(api.address) as channel:
                stub = peer_pb2_grpc.PeerServiceStub(channel)  # type: ignore[no-untyped-call]
                receipt = stub.Send(envelope(yaml="one", signature=signature), timeout=SECONDS)
                other = stub.Send(envelope(yaml="other", signature=signature), timeout=SECONDS)
                frames = [
                    peer_pb2.ExchangeRequest(envelopes=[peer_pb2.Envelope(yaml=text, signature=signature)])
                    for text in ("two", "garbage", "three")
                ]
                answers = [
                    ack
                    for frame in stub.Exchange(iter(frames), timeout=SECONDS)
                    for ack in frame.acknowledgements
                ]
                return (
                    receipt.accepted,
                    other.accepted,
                    [ack.sequence for ack in answers],
                    [(ack.outcome, ack.error) for ack in answers],
                )

        accepted, other, numbers, outcomes = await asyncio.to_thread(call)
        assert (accepted, other) == (True, False)
        assert numbers == [1, 2, 3]
        assert outcomes == [
            (peer_pb2.OUTCOME_ACCEPTED, ""),
            (peer_pb2.OUTCOME_REFUSED, "it is garbage"),
            (peer_pb2.OUTCOME_ACCEPTED, ""),
        ]
        assert node.received == [
            ("one", "", False),
            ("other", "", False),
            ("two", "", False),
            ("three", "", False),
        ]


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("Send", envelope(yaml="garbage", signature=bytes(64)), grpc.StatusCode.INVALID_ARGUMENT),
        ("Send", envelope(yaml="x", signature=b"short"), grpc.StatusCode.INVALID_ARGUMENT),
        (
            "Send",
            envelope(yaml="x" * ((1 << 20) + 1), signature=bytes(64)),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            "Send",
            envelope(yaml="x" * (2 << 20), signature=bytes(64)),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
        ("DialBack", peer_pb2.DialBackRequest(port=5000), grpc.StatusCode.PERMISSION_DENIED),
        ("Fetch", peer_pb2.FetchRequest(digest=DIGEST), grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_what_a_tool_may_not_do_has_its_status(
    method: str, request_: object, code: grpc.StatusCode
) -> None:
    async with running(Node()) as node, served(node.network) as api:

        def call() -> grpc.StatusCode:
            with grpc.insecure_channel(api.address) as channel:
                stub = peer_pb2_grpc.PeerServiceStub(channel)  # type: ignore[no-untyped-call]
                with pytest.raises(grpc.RpcError) as caught:
                    # A stream raises when it is read, a single answer at once.
                    list(getattr(stub, method)(request_, timeout=SECONDS))
                return caught.value.code()

        assert await asyncio.to_thread(call) is code
        assert node.received == []


async def test_a_frame_out_of_bounds_ends_the_stream() -> None:
    async with running(Node()) as node, served(node.network) as api:

        def call(frame: peer_pb2.ExchangeRequest) -> grpc.StatusCode:
            with grpc.insecure_channel(api.address) as channel:
                stub = peer_pb2_grpc.PeerServiceStub(channel)  # type: ignore[no-untyped-call]
                with pytest.raises(grpc.RpcError) as caught:
                    list(stub.Exchange(iter([frame]), timeout=SECONDS))
                return caught.value.code()

        one = peer_pb2.Envelope(yaml="x", signature=bytes(64))
        for frame in (
            peer_pb2.ExchangeRequest(envelopes=[one] * 257),
            peer_pb2.ExchangeRequest(envelopes=[one], sequences=[1, 2]),
        ):
            assert await asyncio.to_thread(call, frame) is grpc.StatusCode.INVALID_ARGUMENT
        assert node.received == []


async def test_reflection_finds_a_method_as_ghz_names_it() -> None:
    async with running(Node()) as node, served(node.network) as api:

        def ask(symbol: str) -> list[bytes]:
            request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
            with grpc.insecure_channel(api.address) as channel:
                stub = reflection_pb2_grpc.ServerReflectionStub(channel)
                (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=SECONDS)
                return list(answer.file_descriptor_response.file_descriptor_proto)

        service = await asyncio.to_thread(ask, "mlnet.v1.PeerService")
        assert service
        assert await asyncio.to_thread(ask, "mlnet.v1.PeerService.Send") == service
        assert await asyncio.to_thread(ask, "mlnet.v1.PeerService.Nothing") == []

"""The calls to one node: with its token, with deadlines, and with errors of mlnet in place of gRPC's."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

import grpc

from mlnet.errors import MlnetError, PeerUnreachable, ServiceError, TransportError
from mlnet.sdk.target import NodeChannel, Target
from mlnet.status.details import error_of
from mlnet.v1 import blobs_pb2_grpc, node_pb2_grpc, tasks_pb2_grpc

R = TypeVar("R")
CALL_SECONDS = 30.0
"""Deadline of a call that only looks something up."""
CONNECT_SECONDS = 10.0
"""For a node to take a connection."""
PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""Codes with which a call ends when the node is stopped, the connection breaks, or there is much to do."""


class NodeConnection:
    """The services of one node.

    Args:
        target: the node.

    Attributes:
        target: the node.
        met: whether it has answered before.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.met = False

    @functools.cached_property
    def _line(self) -> NodeChannel:
        return NodeChannel(self.target)

    @functools.cached_property
    def tasks(self) -> Any:
        """The stub of TasksService."""
        return tasks_pb2_grpc.TasksServiceStub(self._line.channel)  # type: ignore[no-untyped-call]

    @functools.cached_property
    def node(self) -> Any:
        """The stub of NodeService."""
        return node_pb2_grpc.NodeServiceStub(self._line.channel)  # type: ignore[no-untyped-call]

    @functools.cached_property
    def blobs(self) -> Any:
        """The stub of BlobsService."""
        return blobs_pb2_grpc.BlobsServiceStub(self._line.channel)  # type: ignore[no-untyped-call]

    async def ready(self, seconds: float = CONNECT_SECONDS) -> None:
        """Connect, if that is not so yet.

        Raises:
            PeerUnreachable: the node does not answer.
        """
        try:
            async with asyncio.timeout(seconds):
                answered = await self._line.ready()
        except TimeoutError:
            answered = False
        if not answered:
            raise self.unreachable()
        self.met = True

    async def again(self) -> None:
        """Wait until the connection stands again; the caller bounds the wait."""
        while not await self._line.ready():
            pass  # gRPC makes the pauses between its attempts

    async def call(
        self, method: Callable[..., Awaitable[R]], request: Any, seconds: float = CALL_SECONDS
    ) -> R:
        """The answer to a call.

        Raises:
            MlnetError: what the node says; PeerUnreachable where there is none.
        """
        try:
            answer = await method(request, timeout=seconds, metadata=self.target.metadata)
        except grpc.RpcError as failure:
            raise self.error(failure) from None
        self.met = True
        return answer

    async def stream(
        self, method: Callable[..., Any], request: Any, idle: float
    ) -> AsyncGenerator[Any, None]:
        """The answers of a stream.

        Args:
            method: of a stub.
            request: for it.
            idle: seconds of silence after which the stream counts as broken.

        Raises:
            grpc.RpcError: it ended with an error, which may pass (:data:`PASSING`).
            TimeoutError: it was silent for too long.
        """
        call = method(request, metadata=self.target.metadata)
        try:
            while True:
                async with asyncio.timeout(idle):
                    answer = await call.read()
                if answer is grpc.aio.EOF:  # type: ignore[attr-defined]
                    return
                self.met = True
                yield answer
        finally:
            call.cancel()

    def error(self, failure: grpc.RpcError | TimeoutError) -> MlnetError:
        """The error of mlnet that a failed call stands for."""
        if isinstance(failure, TimeoutError):
            return TransportError(f"node {self.target} fell silent")
        error = error_of(failure)
        code = failure.code() if isinstance(failure, grpc.aio.AioRpcError) else None
        if code is grpc.StatusCode.UNAVAILABLE and type(error) is TransportError:
            return self.unreachable(str(error))
        if code is grpc.StatusCode.UNIMPLEMENTED and type(error) is ServiceError:
            return ServiceError(
                f"node {self.target} does not offer this call: it is of another version, or this is a client"
                " without a node",
                status=code.name,
            )
        return error

    def unreachable(self, why: str = "") -> PeerUnreachable:
        """The error for a node that does not answer, with what to do about it."""
        target = self.target
        if target.socket is not None and not target.socket.exists():
            where = "no node runs here" if target.is_default else f"no node listens at {target}"
            return PeerUnreachable(
                f"{where}: start one with `mlnet-node start`, or name the socket or HOST:PORT of another one"
                " (--node, or MLNET_NODE)",
                f"{target} does not exist",
            )
        asked = ", is that the address of its API, and does it ask for TLS (--ca)" if target.address else ""
        return PeerUnreachable(
            f"node {target} does not answer; is it running{asked}?", why or f"{target} does not answer"
        )

    async def close(self) -> None:
        """End all calls."""
        if "_line" in self.__dict__:
            await self._line.close()

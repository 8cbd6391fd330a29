"""What goes round every call of the API, so that no servicer can forget it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

Around = Callable[[str, bool, Any], AbstractAsyncContextManager[None]]
"""``(method, streaming, context)`` -> what goes round one call of that method."""


class Surround(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Runs each method of a server within a context.

    Args:
        around: makes the context of a call.
    """

    def __init__(self, around: Around) -> None:
        self._around = around
        self._handlers: dict[str, tuple[Any, Any]] = {}

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """The handler for a call, within the context."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        # Every call asks; what is made of a handler is made once.
        known = self._handlers.get(method)
        if known is None or known[0] is not handler:
            known = self._handlers[method] = (handler, surrounded(handler, method, self._around))
        return known[1]


def surrounded(handler: Any, method: str, around: Around) -> Any:
    """A handler that runs another one within a context."""
    within = _streaming if handler.response_streaming else _single
    if handler.request_streaming:
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
    else:
        make = (
            grpc.unary_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.unary_unary_rpc_method_handler
        )
    behaviour = handler.stream_stream or handler.stream_unary or handler.unary_stream or handler.unary_unary
    made: Any = make
    return made(
        within(behaviour, partial(around, method, handler.request_streaming or handler.response_streaming)),
        request_deserializer=handler.request_deserializer
        if handler.request_streaming
        else _decoding(handler.request_deserializer),
        response_serializer=handler.response_serializer,
    )


def _decoding(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """The same, but what is no such message is handed on as the error: grpc itself would tell the caller that
    the server failed."""
    if deserialize is None:
        return None

    def decode(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            return error

    return decode


def _raise_if_undecoded(request: Any) -> None:
    if isinstance(request, DecodeError):
        raise request


def _single(behaviour: Any, around: Callable[[Any], AbstractAsyncContextManager[None]]) -> Any:
    async def run(request: Any, context: Any) -> Any:
        async with around(context):
            _raise_if_undecoded(request)
            return await behaviour(request, context)

    return run


def _streaming(behaviour: Any, around: Callable[[Any], AbstractAsyncContextManager[None]]) -> Any:
    async def run(request: Any, context: Any) -> AsyncIterator[Any]:
        async with around(context):
            _raise_if_undecoded(request)
            # A caller that hangs up ends the outer generator; the inner one must end with it, and not when it
            # is collected.
            async with aclosing(behaviour(request, context)) as answers:
                async for answer in answers:
                    yield answer

    async def write(request: Any, context: Any) -> None:
        async with around(context):
            _raise_if_undecoded(request)
            await behaviour(request, context)

    # A method may yield its answers, or write them to the context.
    return run if inspect.isasyncgenfunction(behaviour) else write

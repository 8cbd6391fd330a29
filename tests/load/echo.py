"""A bare grpc.aio server: what gRPC in Python costs by itself, beside which a node is measured.

It answers methods with what a node has answered before, so that both send as many bytes; it checks nothing,
and knows nothing of tokens. ``python tests/load/echo.py FILE`` reads in a JSON file what is answered
(:func:`load.calls.recorded`), prints its ports, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory
from load import calls

from mlnet.service import reflecting

Behaviour = Callable[..., Any]


def _unary(answers: list[Any]) -> Behaviour:
    async def unary(_: Any, __: Any) -> Any:
        return answers[0]

    return unary


def _stream(answers: list[Any]) -> Behaviour:
    async def stream(_: Any, __: Any) -> AsyncIterator[Any]:
        for answer in answers:
            yield answer

    return stream


def _exchange(answers: list[Any]) -> Behaviour:
    async def exchange(requests: AsyncIterator[Any], _: Any) -> AsyncIterator[Any]:
        async for _request in requests:
            yield answers[0]

    return exchange


def _refusal(code: grpc.StatusCode, details: str, trailers: tuple[tuple[str, Any], ...]) -> Behaviour:
    async def refuse(_: Any, context: Any) -> None:
        await context.abort(code, details, trailers)

    return refuse


def handler(told: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The service, and how its method is answered; messages are read and written as by generated code."""
    method = calls.method(told["call"])
    read = message_factory.GetMessageClass(method.input_type).FromString
    answer = message_factory.GetMessageClass(method.output_type)
    write = answer.SerializeToString
    service = method.containing_service.full_name
    if "code" in told:
        trailers = tuple((key, base64.b64decode(value)) for key, value in told["trailers"])
        text = tuple((key, value if key.endswith("-bin") else value.decode()) for key, value in trailers)
        refusal = _refusal(grpc.StatusCode[told["code"]], told["details"], text)
        made: Any = grpc.unary_unary_rpc_method_handler(refusal, read, write)
        return service, {method.name: made}
    answers = [answer.FromString(base64.b64decode(one)) for one in told["answers"]]
    if method.client_streaming:
        made = grpc.stream_stream_rpc_method_handler(_exchange(answers), read, write)
    elif method.server_streaming:
        made = grpc.unary_stream_rpc_method_handler(_stream(answers), read, write)
    else:
        made = grpc.unary_unary_rpc_method_handler(_unary(answers), read, write)
    return service, {method.name: made}


async def serve(told: list[dict[str, Any]], pair: tuple[bytes, bytes] | None) -> None:
    """Serve until standard input ends; over TLS, too, with a key and a certificate."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    made = [handler(one) for one in told]
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(*one) for one in made])
    reflecting.add_to(server, [service for service, _ in made])
    port, secure = server.add_insecure_port("127.0.0.1:0"), 0
    if pair is not None:
        secure = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    sys.stdout.write(f"{port} {secure}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0.2)


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    files = [Path(given[name]).read_bytes() for name in ("key", "certificate") if name in given]
    asyncio.run(serve(given["methods"], (files[0], files[1]) if files else None))

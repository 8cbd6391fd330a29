"""Calls by name: of the methods that the configurations of ghz name, as descriptors and over a channel."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor

from mlnet.v1 import blobs_pb2, node_pb2, peer_pb2, tasks_pb2

KNOWN = (blobs_pb2, node_pb2, peer_pb2, tasks_pb2)
"""Loaded, so that the pool of descriptors has their services."""
SECONDS = 20.0


def method(name: str) -> MethodDescriptor:
    """A method by its name as ghz has it: ``package.Service.Method``."""
    if name.startswith("grpc.health."):
        from grpc_health.v1 import health_pb2  # noqa: F401 - loads the descriptor
    return descriptor_pool.Default().FindMethodByName(name.replace("/", "."))


def requests(configuration: Mapping[str, Any], file: Path) -> list[Any]:
    """The requests that a configuration sends, in its own order.

    Args:
        configuration: of ghz.
        file: with its data, if it names one.
    """
    sent = configuration.get("data")
    if sent is None:
        sent = json.loads(file.read_text())
    made = message_factory.GetMessageClass(method(configuration["call"]).input_type)
    return [json_format.ParseDict(one, made()) for one in (sent if isinstance(sent, list) else [sent])]


def call(
    channel: grpc.Channel,
    configuration: Mapping[str, Any],
    file: Path,
    metadata: Sequence[tuple[str, str]] = (),
) -> list[Any]:
    """Make one call of a configuration, and return all that is answered.

    Raises:
        grpc.RpcError: as the server answers.
    """
    described, sent = method(configuration["call"]), requests(configuration, file)
    path = f"/{described.containing_service.full_name}/{described.name}"
    write = message_factory.GetMessageClass(described.input_type).SerializeToString
    read = message_factory.GetMessageClass(described.output_type).FromString
    if described.client_streaming:
        streamed: Any = channel.stream_stream(path, write, read)
        return list(streamed(iter(sent), timeout=SECONDS, metadata=tuple(metadata)))
    if described.server_streaming:
        streamed = channel.unary_stream(path, write, read)
        return list(streamed(sent[0], timeout=SECONDS, metadata=tuple(metadata)))
    single: Any = channel.unary_unary(path, write, read)
    return [single(sent[0], timeout=SECONDS, metadata=tuple(metadata))]


def recorded(ask: Callable[[], Sequence[Any]]) -> dict[str, Any]:
    """What a call is answered, for :mod:`load.echo`: messages, or the status of an error."""
    try:
        return {"answers": [_base64(answer.SerializeToString()) for answer in ask()]}
    except grpc.RpcError as error:
        failed: Any = error
        trailers = [
            (key, _base64(value if isinstance(value, bytes) else value.encode()))
            for key, value in failed.trailing_metadata()
        ]
        return {"code": failed.code().name, "details": failed.details(), "trailers": trailers}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def configuration(name: str) -> dict[str, Any]:
    """A configuration of ghz in this directory."""
    read: dict[str, Any] = json.loads((Path(__file__).parent / f"{name}.json").read_text())
    return read

"""Server reflection, so that grpcurl, ghz and grpcui need no file.

grpcio-reflection speaks ``grpc.reflection.v1alpha``; ``grpc.reflection.v1`` has the same messages under
another name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

SERVICE = "grpc.reflection.v1.ServerReflection"
_FILE = "grpc/reflection/v1/reflection.proto"


def add_to(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Have a server tell of its services.

    Args:
        server: not started yet.
        services: full names; those of reflection itself are added.
    """
    _describe()
    names = (*services, SERVICE, reflection.SERVICE_NAME)
    library: Any = reflection  # its stubs know no aio
    servicer = library.aio.ReflectionServicer(names, _Pool(descriptor_pool.Default()))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    method: Any = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = grpc.method_handlers_generic_handler(SERVICE, {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((handlers,))


class _Pool:
    """A pool of descriptors that finds methods as well: ghz asks for ``package.Service.Method``."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - protobuf's name
        """The file that defines a symbol.

        Raises:
            KeyError: none does.
        """
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            method: FileDescriptor = self._pool.FindMethodByName(symbol).containing_service.file
            return method


def _describe() -> None:
    """Enter the definition of v1 where tools look it up."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_FILE)
    except KeyError:
        new = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(new)
        new.name, new.package = _FILE, "grpc.reflection.v1"
        for message in new.message_type:
            for field in message.field:
                if field.HasField("type_name"):
                    field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
        for service in new.service:
            for method in service.method:
                method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
                method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
        pool.AddSerializedFile(new.SerializeToString())

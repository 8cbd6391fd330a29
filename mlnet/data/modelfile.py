"""The model as the user gets it: the members' weights, and the schema of the dataset beside them.

A safetensors file is 8 bytes of length, a JSON header, and the tensors. Only the header is written anew, so
that the tensors stay the bytes that the members signed, and a large model never lies in memory.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from mlnet.data.schema import Schema
from mlnet.data.segments import MAX_HEADER_BYTES
from mlnet.errors import DataError
from mlnet.util import files

MODEL = "model.safetensors"
"""The name of the file with the trained model, at a member as at the user."""
SCHEMA_KEY = "mlnet-dataset"
"""Of the schema in the metadata of a model file."""

_BLOCK = 1 << 20
"""Bytes that are copied and hashed at a time."""
_ALIGNMENT = 8
"""Of the tensors behind the header, as the safetensors format asks."""


def deliver(source: Path, target: Path, schema: Schema | None) -> str:
    """Write a model file with the schema in its metadata. It appears complete or not at all.

    Args:
        source: the model that the members signed, verified.
        target: where the user finds it.
        schema: of the dataset; None leaves the file as it is.

    Returns:
        SHA-256 of the new file, hex.

    Raises:
        DataError: the source is no model.
        OSError: the target cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    with source.open("rb") as file:
        header = _header(file, source, schema)
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                digest = _copy(header, file, descriptor)
            finally:
                os.close(descriptor)
            os.replace(part, target)  # noqa: PTH105 - one name for each call that reaches the disk
        except OSError:
            files.remove(part)
            raise
    files.sync_directory(target.parent)
    return digest


def _header(file: BinaryIO, path: Path, schema: Schema | None) -> bytes:
    """Length and header of the new file; the stream stands at the tensors afterwards."""
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if not 0 < length <= MAX_HEADER_BYTES:
        raise DataError(f"{path} is not a model file of mlnet; check the path")
    content = file.read(length)
    if schema is None:
        return prefix + content
    try:
        header: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
        header["__metadata__"] = header.get("__metadata__", {}) | {SCHEMA_KEY: schema.to_json()}
    except (msgspec.DecodeError, TypeError) as error:
        raise DataError(f"{path} is not a model file of mlnet: {error}") from error
    content = msgspec.json.encode(header)
    content += b" " * (-len(content) % _ALIGNMENT)
    return struct.pack("<Q", len(content)) + content


def _copy(header: bytes, file: BinaryIO, descriptor: int) -> str:
    digest = hashlib.sha256(header)
    files.write_all(descriptor, header)
    while block := file.read(_BLOCK):
        digest.update(block)
        files.write_all(descriptor, block)
    os.fsync(descriptor)
    return digest.hexdigest()

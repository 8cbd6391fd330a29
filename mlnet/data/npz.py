"""NumPy's .npz archives and .npy arrays, read without pickle and sized before they are unpacked."""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from mlnet.data.table import AnyArray, Limits, check_shape
from mlnet.errors import DataError

_MAX_MEMBERS = 64
_NPY_MAGIC = b"\x93NUMPY"
_LENGTHS = {1: "<H", 2: "<I", 3: "<I"}
"""How each version of the format writes the length of its header."""
_MAX_HEADER = 10_000
# The header is a Python expression; what numpy writes for arrays of numbers is matched, nothing evaluated.
_HEADER = re.compile(
    rb"\{'descr': '([<>|](?:b1|[iu][1248]|f[248]))', 'fortran_order': (True|False),"
    rb" 'shape': \(((?:\d{1,18},?(?: (?=\d)|(?=\))))*)\), *\} *\n"
)


def read_array(path: Path, name: str, limits: Limits, *, alone: bool) -> AnyArray:
    """One array of an archive.

    Args:
        path: a .npz file, or a .npy file with a single array.
        name: the array's name in the archive.
        limits: refused beyond these.
        alone: the file holds nothing else, so a single array is taken whatever its name.

    Raises:
        DataError: no such file or array, or not one that may be read.
    """
    with _errors(path):
        with path.open("rb") as file:
            if alone and file.read(len(_NPY_MAGIC)) == _NPY_MAGIC:
                return _read_npy(file, f"{path}", path.stat().st_size, limits)
        with zipfile.ZipFile(path) as archive:
            member = _member(archive, path, name, alone)
            with archive.open(member) as stream:
                return _read_npy(cast("BinaryIO", stream), f"{path}[{name}]", member.file_size, limits)


def _arrays(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise DataError(f"{path} holds {len(members)} files; at most {_MAX_MEMBERS} are read")
    return {member.filename.removesuffix(".npy"): member for member in members}


def _member(archive: zipfile.ZipFile, path: Path, name: str, alone: bool) -> zipfile.ZipInfo:
    arrays = _arrays(archive, path)
    if name in arrays:
        member = arrays[name]
    elif alone and len(arrays) == 1:
        (member,) = arrays.values()
    else:
        found = ", ".join(sorted(arrays)[:8]) or "nothing"
        raise DataError(
            f"{path} holds no array {name!r} (it holds {found}); save it as numpy.savez(..., {name}=...)"
        )
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{path} uses a compression that numpy does not write; save it with numpy.savez")
    return member


def _read_npy(stream: BinaryIO, what: str, size: int, limits: Limits) -> AnyArray:
    """Read an array whose header agrees with ``size``; numpy itself would allocate what the header claims."""
    stream.seek(0)
    magic, major, _ = struct.unpack("<6sBB", _exactly(stream, 8, what))
    if magic != _NPY_MAGIC or major not in _LENGTHS:
        raise DataError(f"{what} is not an array as numpy.save writes it")
    length = struct.unpack(_LENGTHS[major], _exactly(stream, struct.calcsize(_LENGTHS[major]), what))[0]
    if length > _MAX_HEADER:
        raise DataError(f"{what} has a header of {length} bytes; at most {_MAX_HEADER} are read")
    header = _HEADER.fullmatch(_exactly(stream, length, what))
    if header is None:
        raise DataError(f"{what} is not an array of numbers; save numbers with numpy.save or numpy.savez")
    dtype = np.dtype(header[1].decode())
    shape = tuple(map(int, header[3].replace(b",", b" ").split()))
    check_shape(what, shape, max(4, dtype.itemsize), limits)
    content = math.prod(shape) * dtype.itemsize
    if stream.tell() + content != size:
        raise DataError(
            f"{what}: the header asks for {content} bytes, {size - stream.tell()} are there; save it again"
        )
    values = np.frombuffer(_exactly(stream, content, what), dtype=dtype)
    array: AnyArray = values.reshape(shape, order="F" if header[2] == b"True" else "C")
    return array


def _exactly(stream: BinaryIO, count: int, what: str) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise DataError(f"{what} ends after {len(content)} of {count} bytes; save it again")
    return content


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (
        OSError,
        EOFError,
        ValueError,
        zlib.error,
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise DataError(
            f"{path} cannot be read as NPZ: {error}; check the path, or save it with numpy.savez"
        ) from error

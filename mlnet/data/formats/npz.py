"""NumPy's .npz archives and .npy arrays, read without pickle and sized before they are unpacked."""

from __future__ import annotations

import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.lib import format as npy

from mlnet.data.formats.base import Part
from mlnet.data.schema import Kind
from mlnet.data.table import AnyArray, DatasetLimits, check_shape
from mlnet.errors import DataError

_MAX_MEMBERS = 64
"""Arrays of an archive; two are wanted."""
_START = 64
"""Bytes by which a file that is no archive is told for what it is."""
_TEXT = set(range(32, 127)) | set(b"\t\r\n")
_ALIKE = {
    "features": ("feature", "features", "x", "data", "images", "inputs"),
    "labels": ("label", "labels", "y", "target", "targets", "classes"),
}
"""How other programs call these arrays, before an underscore and its suffix."""
_FOREIGN = (
    (b"\x1f\x8b", "packed with gzip (unpack it)"),
    (b"\x89HDF", "an HDF5 file"),
    (b"MATLAB", "a MATLAB file"),
    (b"\x80", "a Python pickle, which can run code and is never read"),
    (b"PAR1", "a Parquet file"),
    (b"\0\0\x08", "an IDX file (ml.dataset.format: MNIST)"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"<", "a web page or XML"),
    (b"version https://git-lfs", "a Git LFS pointer (fetch the file itself with: git lfs pull)"),
)
_NPY_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000
"""Bytes of an array's header. It is Python source, which numpy parses; this is numpy's own bound."""
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_KINDS = "biufUS"
"""Of numbers, and of texts, which are labels."""


KIND: Kind | None = None
LABELS_APART = False


def read(path: Path, part: Part, limits: DatasetLimits, *, alone: bool) -> AnyArray:
    """One array of an archive.

    Args:
        path: a .npz file, or a .npy file with a single array.
        part: the array's name in the archive.
        limits: refused beyond these.
        alone: the file holds nothing else, so a single array is taken whatever its name.

    Raises:
        DataError: no such file or array, or not one that may be read.
    """
    with _errors(path):
        with path.open("rb") as file:
            start = file.read(_START)
            if alone and start.startswith(_NPY_MAGIC):
                return _read_npy(file, f"{path}", path.stat().st_size, limits)
            _refuse_foreign(path, start)
        with zipfile.ZipFile(path) as archive:
            member = _member(archive, path, part, alone)
            with archive.open(member) as stream:
                return _read_npy(cast("BinaryIO", stream), f"{path}[{part}]", member.file_size, limits)


def is_one(path: Path) -> bool:
    """Whether a file looks like an archive of arrays, or like one array."""
    try:
        with path.open("rb") as file:
            return file.read(len(_NPY_MAGIC)).startswith((b"PK\3\4", _NPY_MAGIC[:4]))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path") from error


def holds_labels(path: Path) -> bool:
    """Whether a file is an array of one value a row."""
    return is_array(path) and dimensions(path) == 1


def _refuse_foreign(path: Path, start: bytes) -> None:
    """Refuse a file that is not an archive, and say what it is instead."""
    if start.startswith(b"PK"):
        return
    if start.startswith(_NPY_MAGIC):
        raise DataError(
            f"{path} is a single array; name the one of the labels in ml.dataset.source.labels, or save"
            " both with"
            " numpy.savez(..., features=..., labels=...)"
        )
    what = next((what for magic, what in _FOREIGN if start.startswith(magic)), "")
    if not what and start.strip() and not set(start) - _TEXT:
        what = "a text, such as a CSV (ml.dataset.format: CSV)"
    if what:
        raise DataError(
            f"{path} is {what}, not NPZ; name the right file or format, or save it with numpy.savez"
        )


def is_array(path: Path) -> bool:
    """Whether a file begins like a .npy file."""
    with _errors(path), path.open("rb") as file:
        return file.read(len(_NPY_MAGIC)) == _NPY_MAGIC


def dimensions(path: Path) -> int:
    """Of the array in a .npy file.

    Raises:
        DataError: it is none.
    """
    with _errors(path), path.open("rb") as file:
        return len(_header(file, str(path))[0])


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
        alike = [one for one in sorted(arrays) if one.casefold().split("_")[0] in _ALIKE.get(name, ())]
        source = f"{alike[0]!r} is likely the one" if len(alike) == 1 else "choose the one that is meant"
        hint = f"; {source}" if alike else ""
        raise DataError(
            f"{path} holds no array {name!r} (it holds {found}){hint}; save it as numpy.savez(...,"
            f" {name}=...)"
        )
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{path} uses a compression that numpy does not write; save it with numpy.savez")
    return member


def _read_npy(stream: BinaryIO, what: str, size: int, limits: DatasetLimits) -> AnyArray:
    """Read an array whose header agrees with ``size``; numpy's own read_array would allocate what it
    claims."""
    stream.seek(0)
    shape, fortran, dtype = _header(stream, what)
    if dtype.hasobject:
        raise DataError(
            f"{what} holds Python objects, which are never read, because unpickling runs code; save"
            " numbers, or texts of a fixed length (array.astype(str))"
        )
    if dtype.kind not in _KINDS:
        raise DataError(f"{what} is an array of {dtype}, not of numbers; save numbers with numpy.savez")
    if any(length < 0 for length in shape):
        raise DataError(f"{what} has the impossible shape {shape}; save it again")
    check_shape(what, shape, max(4, dtype.itemsize), limits)
    content = math.prod(shape) * dtype.itemsize
    if stream.tell() + content != size:
        raise DataError(
            f"{what}: the header asks for {content} bytes, {size - stream.tell()} are there; save it again"
        )
    values = np.frombuffer(_exactly(stream, content, what), dtype=dtype)
    array: AnyArray = values.reshape(shape, order="F" if fortran else "C")
    return array


def _header(stream: BinaryIO, what: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, order and type, as numpy reads them: as literals, of bounded length, nothing evaluated."""
    try:
        version = npy.read_magic(stream)
        if version not in _READERS:
            raise DataError(
                f"{what} is an array of version {version[0]}.{version[1]} of the format, which only"
                " structured types need; save plain numbers"
            )
        with warnings.catch_warnings():
            # Of arrays that Python 2 wrote numpy says that reading them took longer.
            warnings.simplefilter("ignore", UserWarning)
            shape, fortran, dtype = _READERS[version](stream, max_header_size=_MAX_HEADER)
    except (
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
        MemoryError,
        SyntaxError,
        tokenize.TokenError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{what} has no header of an array that numpy reads: {reason}; save it again"
        ) from error
    return tuple(int(length) for length in shape), bool(fortran), dtype


def _exactly(stream: BinaryIO, count: int, what: str) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise DataError(f"{what} ends after {len(content)} of {count} bytes; save it again")
    return content


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{path} cannot be read as NPZ: {error}; get it again if it was cut short, or save it with"
            " numpy.savez"
        ) from error
    except (
        OSError,
        EOFError,
        ValueError,
        zlib.error,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise DataError(
            f"{path} cannot be read as NPZ: {error}; check the path, or save it with numpy.savez"
        ) from error

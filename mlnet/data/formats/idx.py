"""The IDX format of the MNIST database, plain or compressed with gzip.

Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", file formats.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from mlnet.data.formats.base import Part
from mlnet.data.schema import Kind
from mlnet.data.table import DatasetLimits, check_shape
from mlnet.errors import DataError

_UNSIGNED_BYTE = 0x08
_TYPES = {
    0x09: "signed bytes",
    0x0B: "integers of 16 bits",
    0x0C: "integers of 32 bits",
    0x0D: "floats of 32 bits",
    0x0E: "floats of 64 bits",
}
_GZIP_MAGIC = b"\x1f\x8b"


KIND: Kind | None = "bytes"
LABELS_APART = True


def read(path: Path, part: Part, limits: DatasetLimits, *, alone: bool) -> NDArray[np.uint8]:
    """See :class:`mlnet.data.formats.base.ArrayFormat`."""
    return read_images(path, limits) if part == "features" else read_labels(path, limits)


def holds_labels(path: Path) -> bool:
    """Whether an IDX file has one dimension: a list of labels, no images."""
    with _opened(path) as stream:
        return stream.read(4)[3:] == b"\1"


def is_one(path: Path) -> bool:
    """Whether a file begins like an IDX file of unsigned bytes, gzip or not; False when it cannot be read."""
    try:
        with _opened(path) as stream:
            return stream.read(3) == bytes((0, 0, _UNSIGNED_BYTE))
    except DataError:
        return False


def read_images(path: Path, limits: DatasetLimits) -> NDArray[np.uint8]:
    """Images as uint8 (rows, height * width); :mod:`mlnet.data.scaling` makes features of them.

    Raises:
        DataError: the file is not one of IDX images, or is larger than the limits.
    """
    pixels = _read(path, limits)
    if pixels.ndim < 2 or 0 in pixels.shape:
        raise DataError(
            f"{path}: an IDX file of shape {pixels.shape} holds no images; is it the file of labels?"
        )
    return pixels.reshape(len(pixels), -1)


def read_labels(path: Path, limits: DatasetLimits) -> NDArray[np.uint8]:
    """Labels as uint8 (rows,).

    Raises:
        DataError: the file is not one of IDX labels, or is larger than the limits.
    """
    labels = _read(path, limits)
    if labels.ndim != 1:
        raise DataError(
            f"{path}: an IDX file of shape {labels.shape} holds no labels; is it the file of images?"
        )
    return labels


def _read(path: Path, limits: DatasetLimits) -> NDArray[np.uint8]:
    with _opened(path) as stream:
        zero, kind, dimensions = struct.unpack(">HBB", _exactly(stream, 4, path))
        if zero == 0 and kind in _TYPES and 1 <= dimensions <= 4:
            raise DataError(
                f"{path} is an IDX file of {_TYPES[kind]}, and only unsigned bytes are read; save the"
                " rows as NPZ"
            )
        if zero != 0 or kind != _UNSIGNED_BYTE or not 1 <= dimensions <= 4:
            raise DataError(f"{path} is not an IDX file of unsigned bytes; MNIST's files begin with 0 0 8")
        shape: tuple[int, ...] = struct.unpack(f">{dimensions}I", _exactly(stream, 4 * dimensions, path))
        # Features become float32.
        check_shape(str(path), shape, 4, limits)
        size = int(np.prod(shape, dtype=np.uint64))
        content = np.frombuffer(_exactly(stream, size, path), dtype=np.uint8)
        if stream.read(1):
            raise DataError(f"{path} holds more bytes than its header says ({size}); get the file again")
    return content.reshape(shape)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if compressed:
                with gzip.GzipFile(fileobj=file) as stream:
                    yield cast("BinaryIO", stream)
            else:
                yield file
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; check the path and get the file again") from error


def _exactly(stream: BinaryIO, count: int, path: Path) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise DataError(f"{path} ends after {len(content)} of {count} bytes; get the file again")
    return content

"""Segments: a dataset cut into ten files that nodes fetch, verify and read.

A segment is a safetensors file with the tensors ``features`` float32 (rows, inputs) and ``labels`` int64
(rows,) or float32 (rows, outputs). Its name on the network is its hash, see :mod:`mlnet.kernels`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mlnet.data.labels import as_labels
from mlnet.data.table import AnyArray, DatasetLimits, Table, as_features, check_shape
from mlnet.errors import DataError, StorageError, TooFewRows
from mlnet.kernels import segmenthash
from mlnet.task.segments import SEGMENTS, Segment
from mlnet.util import files

MAX_HEADER_BYTES = 64 << 10
"""Of a file's header, JSON that safetensors holds in memory whole. That of a segment has 168 bytes, that of a
model some 80 for each tensor."""
_ITEM_BYTES = {"F32": 4, "I64": 8}


def bounds(rows: int) -> list[int]:
    """Where ``rows`` rows are cut: eleven positions, of which segment i holds bounds[i] to bounds[i + 1].

    Raises:
        TooFewRows: a segment would be empty.
    """
    if rows < SEGMENTS:
        raise TooFewRows(
            f"the dataset has {rows} rows and needs at least {SEGMENTS}, one for each segment into"
            " which it is split; check ml.dataset.source, or use a larger dataset"
        )
    return [rows * index // SEGMENTS for index in range(SEGMENTS + 1)]


def permutation(rows: int, seed: bytes) -> NDArray[np.int64]:
    """The order 0 to rows - 1 shuffled by a 16-byte seed; the same on every machine and numpy version.

    Sorts the rows by a keystream of Philox 4x64 (Salmon et al., SC11), whose raw output numpy keeps stable
    between versions, which it does not promise of ``Generator.permutation``.
    """
    keys = np.random.Philox(key=int.from_bytes(seed[:16], "big")).random_raw(rows)
    return np.argsort(np.asarray(keys, dtype=np.uint64), kind="stable").astype(np.int64)


def write_segments(table: Table, seed: bytes, directory: Path) -> dict[Path, Segment]:
    """Shuffle a dataset and write its ten segments, the same bytes each time.

    Args:
        table: the dataset.
        seed: 16 bytes or more, of which 16 decide the order of the rows.
        directory: where the files are made; it exists.

    Returns:
        The segments in the order in which they were cut, by their files.

    Raises:
        TooFewRows: a segment would be empty.
        StorageError: a file cannot be written, or there is no room for all.
    """
    cuts = bounds(len(table.features))
    size = table.features.nbytes + table.labels.nbytes + SEGMENTS * MAX_HEADER_BYTES
    with files.written_to(directory, "choose another --data-dir"):
        files.require_room(directory, size, "the segments of the dataset take", "choose another --data-dir")
    order = permutation(len(table.features), seed)
    made: dict[Path, Segment] = {}
    for index in range(SEGMENTS):
        rows = order[cuts[index] : cuts[index + 1]]
        path = directory / f"segment-{index}.safetensors"
        # The index makes hashes differ even where rows repeat; a second entry would have no fixed order.
        metadata = {"mlnet": f"segment {index} of {SEGMENTS}"}
        try:
            save_file({"features": table.features[rows], "labels": table.labels[rows]}, path, metadata)
            size = path.stat().st_size
        except (OSError, SafetensorError) as error:
            raise StorageError(f"segment {path} cannot be written: {error}; free some space") from error
        made[path] = Segment(segmenthash.digest_file(path).hex(), size, len(rows))
    return made


def read_segment(
    path: Path,
    *,
    inputs: int,
    outputs: int,
    classes: bool,
    rows: int | None = None,
    limits: DatasetLimits | None = None,
) -> Table:
    """Read a segment that came from the network; its shapes are checked before memory is taken.

    Args:
        path: the file, whose hash has been verified.
        inputs: features of a row.
        outputs: nodes of the model's last layer.
        classes: whether the labels are class numbers (CrossEntropy) or targets (MSE).
        rows: how many it must hold; None for any number.
        limits: refused beyond these.

    Raises:
        DataError: it is not such a segment.
        LabelError: its labels do not fit the model.
    """
    arrays = read_tensors(
        path,
        {"features": ("F32", (rows, inputs)), "labels": _label_shape(rows, outputs, classes)},
        limits or DatasetLimits(),
    )
    features = as_features(str(path), arrays["features"])
    labels = as_labels(str(path), arrays["labels"], classes=classes, outputs=outputs)
    if len(features) != len(labels):
        raise DataError(
            f"{path} holds {len(features)} rows of features and {len(labels)} labels; get it again"
        )
    return Table(features, labels)


def segment_inputs(path: Path) -> int:
    """Features of a row of a segment, from its header.

    Raises:
        DataError: it is no segment.
    """
    with opened(path) as file:
        if "features" not in file.keys():  # noqa: SIM118 - not a mapping
            raise DataError(f"{path} is not a segment; it holds no features")
        shape = file.get_slice("features").get_shape()
    if len(shape) != 2:
        raise DataError(f"{path} is not a segment; its features have the shape {shape}")
    return int(shape[1])


def _label_shape(rows: int | None, outputs: int, classes: bool) -> tuple[str, tuple[int | None, ...]]:
    return ("I64", (rows,)) if classes else ("F32", (rows, outputs))


class TensorSlice(Protocol):
    """The header's entry of one tensor."""

    def get_shape(self) -> list[int]:
        """Its shape."""
        ...

    def get_dtype(self) -> str:
        """Its type as safetensors writes it, such as F32."""
        ...


class TensorFile(Protocol):
    """What is used of an open safetensors file, whose own types are incomplete."""

    def keys(self) -> list[str]:
        """Names of the tensors."""
        ...

    def metadata(self) -> dict[str, str] | None:
        """Texts beside the tensors."""
        ...

    def get_slice(self, name: str) -> TensorSlice:
        """A tensor that is not read yet."""
        ...

    def get_tensor(self, name: str) -> AnyArray:
        """A tensor."""
        ...


@contextmanager
def opened(path: Path, header_bytes: int = MAX_HEADER_BYTES) -> Iterator[TensorFile]:
    """A safetensors file whose header is not larger than any that mlnet writes.

    Args:
        path: the file.
        header_bytes: the largest header.

    Raises:
        DataError: it is larger, or the file is not valid, or becomes unreadable within the context.
    """
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
        if len(prefix) < 8 or struct.unpack("<Q", prefix)[0] > header_bytes:
            raise DataError(f"{path} is not a safetensors file of mlnet; check the path")
        with safe_open(path, framework="numpy") as tensors:
            yield cast("TensorFile", tensors)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {files.why(error)}; check the path") from error
    except SafetensorError as error:
        raise DataError(f"{path} is not a valid safetensors file: {error}; get it again") from error


def read_tensors(
    path: Path,
    expected: Mapping[str, tuple[str, tuple[int | None, ...]]],
    limits: DatasetLimits,
    header_bytes: int = MAX_HEADER_BYTES,
) -> dict[str, AnyArray]:
    """The named tensors of a safetensors file, which must be all that it holds.

    Args:
        path: the file.
        expected: type (F32 or I64) and shape of each tensor; None stands for any length.
        limits: refused beyond these.
        header_bytes: the largest header.

    Raises:
        DataError: the file, a name, a type or a shape is not as expected.
        MemoryError: there is not enough for them.
    """
    with opened(path, header_bytes) as file:
        found = sorted(file.keys())
        if found != sorted(expected):
            raise DataError(f"{path} holds the tensors {found[:8]}; expected {sorted(expected)[:8]}")
        octets = 0
        for name, (dtype, shape) in expected.items():
            view = file.get_slice(name)
            actual = tuple(view.get_shape())
            fits = len(actual) == len(shape) and all(
                want is None or have == want for have, want in zip(actual, shape, strict=True)
            )
            if not fits or view.get_dtype() != dtype:
                raise DataError(f"{path}: {name} is {view.get_dtype()} {actual}; expected {dtype} {shape}")
            check_shape(f"{path}[{name}]", actual, _ITEM_BYTES[dtype], limits)
            octets += math.prod(actual) * _ITEM_BYTES[dtype]
        # Where there is no memory this raises MemoryError; safetensors panics, and the process may hang.
        bytearray(octets)
        return {name: file.get_tensor(name) for name in expected}

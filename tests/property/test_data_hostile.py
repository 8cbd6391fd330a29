"""Files from strangers: any bytes are read, or refused with a DataError."""

from __future__ import annotations

import gzip
import io
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from mlnet.data import DatasetLimits, read_segment
from mlnet.data.formats.csv_file import Wanted, read_rows
from mlnet.data.formats.csv_layout import detect
from mlnet.data.formats.idx import read_images
from mlnet.data.formats.npz import read
from mlnet.data.modelfile import deliver
from mlnet.data.rows import read as read_any
from mlnet.data.schema import Dialect, Schema
from mlnet.errors import DataError
from mlnet.task.layers import DenseLayer
from mlnet.task.schema import Initializer
from mlnet.training.architecture import Architecture
from mlnet.training.model import build, load_model, read_schema, save_model

SMALL = DatasetLimits(source_bytes=1 << 16, table_bytes=1 << 16, rows=1000, columns=1000, line_bytes=1000)
ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


def npz(save_as: Callable[..., None]) -> bytes:
    file = io.BytesIO()
    save_as(file, features=ROWS, labels=np.zeros(3, np.int64))
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, ROWS)
    return file.getvalue()


def model() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model"
        save_model(build(Architecture(4, (DenseLayer(3),), "CrossEntropy"), Initializer(), bytes(8)), path)
        return path.read_bytes()


SCHEMA = Schema("CSV", 2, classes=(0, 1), width=3, names=("a", "b", "y"), label=2)


def delivered() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model"
        save_model(build(Architecture(2, (DenseLayer(2),), "CrossEntropy"), Initializer(), bytes(8)), path)
        deliver(path, path.with_name("delivered"), SCHEMA)
        return path.with_name("delivered").read_bytes()


def table(path: Path) -> None:
    layout = detect(path, Dialect(), SMALL)
    read_rows(path, layout, Wanted(range(layout.width - 1), layout.width - 1, texts=True), SMALL)


IDX = struct.pack(">HBB3I", 0, 8, 3, 3, 2, 2) + bytes(12)
SEGMENT = save({"features": ROWS, "labels": np.zeros(3, np.int64)}, {"mlnet": "segment"})
READERS: dict[str, tuple[bytes, Callable[[Path], object]]] = {
    "npz": (npz(np.savez), lambda path: read(path, "features", SMALL, alone=False)),
    "deflated npz": (npz(np.savez_compressed), lambda path: read(path, "labels", SMALL, alone=True)),
    "npy": (npy(), lambda path: read(path, "features", SMALL, alone=True)),
    "idx": (IDX, lambda path: read_images(path, SMALL)),
    "gzip": (gzip.compress(IDX), lambda path: read_images(path, SMALL)),
    "csv": (b"a,b\n1,2\n3,4\n", table),
    "texts": (b'#c\nsep;"b\n";c\n1,5;x;u\n2,5;y;v\n', table),
    "packed csv": (gzip.compress(b"a,b\n1,2\n3,4\n"), table),
    "segment": (SEGMENT, lambda path: read_segment(path, inputs=4, outputs=2, classes=True, limits=SMALL)),
    "model": (model(), load_model),
    "delivered": (delivered(), read_schema),
    "any": (SEGMENT, lambda path: read_any(path, 4, None, limits=SMALL)),
    "any table": (b"a,b,y\n1,2,0\n3,4,1\n", lambda path: read_any(path, 2, SCHEMA, limits=SMALL)),
}


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_changed_files(name: str, data: st.DataObject) -> None:
    content, read = READERS[name]
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(0, 4), "changes")):
        start = data.draw(st.integers(0, len(changed)), "start")
        stop = data.draw(st.integers(start, min(len(changed), start + 8)), "stop")
        changed[start:stop] = data.draw(st.binary(max_size=8), "bytes")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "file"
        path.write_bytes(changed)
        with suppress(DataError):
            read(path)

"""Inference on files of every format."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlnet.data.rows import read
from mlnet.data.schema import Dialect, Schema
from mlnet.errors import DataError
from mlnet.task.layers import DenseLayer
from mlnet.task.schema import Initializer, Loss
from mlnet.training.architecture import Architecture
from mlnet.training.model import build, save_model
from mlnet.training.predict import predict

ROWS = np.array([[0.0, 1.0, 2.0, 3.0], [9.0, 8.0, 7.0, 6.0]], dtype=np.float32)


def model(path: Path, loss: Loss = "CrossEntropy") -> Path:
    save_model(build(Architecture(4, (DenseLayer(3),), loss), Initializer(), bytes(32)), path / "model")
    return path / "model"


def expected(path: Path) -> np.ndarray:
    np.savez(path / "plain.npz", features=ROWS)
    return predict(model(path), path / "plain.npz").values


def write(path: Path, kind: str) -> Path:
    file = path / f"data.{kind}"
    text = "".join(",".join(str(value) for value in row) + "\n" for row in ROWS)
    match kind:
        case "npz":
            np.savez(file, features=ROWS, labels=[0, 1])
        case "npy":
            np.save(file, ROWS.astype(np.float64))
        case "csv":
            file.write_text(text)
        case "named.csv":
            file.write_text("a;b;c;d\n" + text.replace(",", ";"))
        case "safetensors" | "segment":
            save_file({"features": ROWS, "labels": np.array([0, 1])}, file)
    return file


@pytest.mark.parametrize("kind", ["npz", "npy", "csv", "named.csv", "safetensors", "segment"])
def test_every_format_gives_the_same(tmp_path: Path, kind: str) -> None:
    found = predict(model(tmp_path), write(tmp_path, kind))
    np.testing.assert_array_equal(found.values, expected(tmp_path))
    assert found.classes is not None
    assert found.probabilities is not None
    np.testing.assert_array_equal(found.classes, found.values.argmax(axis=1))
    np.testing.assert_array_equal(found.probabilities, found.values.max(axis=1))
    np.testing.assert_allclose(found.values.sum(axis=1), 1, rtol=1e-6)


def test_a_members_model_does_not_say_how_pixels_were_scaled(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 1, 2, 2) + bytes([0, 51, 102, 255]))
    with pytest.raises(DataError, match="does not say how its features were scaled"):
        predict(model(tmp_path), tmp_path / "images")


def test_a_regression_gives_values(tmp_path: Path) -> None:
    found = predict(model(tmp_path, "MSE"), write(tmp_path, "csv"))
    assert found.classes is None
    assert found.probabilities is None
    assert found.values.shape == (2, 3)


def test_a_training_without_names_finds_them_in_new_rows(tmp_path: Path) -> None:
    """Such as pandas writes them where none were given."""
    schema = Schema("CSV", 4, dialect=Dialect(header=False), width=4)
    lines = "0.5,1,2,3\n9,8,7,6\n"
    for name, head in (("named", "0,1,2,3\n"), ("plain", "")):
        (tmp_path / name).write_text(head + lines)
        assert len(read(tmp_path / name, 4, schema).features) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1,2,3\n4,5,6\n", "rows of 3 values; the model takes 4 features"),
        (b"\xff\xfe\xfd", "is not whole UTF-16 text"),
        (b"", "holds no rows"),
        (b"PK\3\4 broken", "cannot be read as NPZ"),
        (struct.pack("<Q", 2) + b"{}", "holds no tensor 'features'"),
    ],
)
def test_data_that_does_not_fit(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(DataError, match=message):
        predict(model(tmp_path), tmp_path / "data")


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no-model"):
        predict(tmp_path / "no-model", tmp_path / "no-data")
    with pytest.raises(DataError, match="no-data"):
        predict(model(tmp_path), tmp_path / "no-data")

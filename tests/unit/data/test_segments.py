"""Splitting a dataset, and reading segments that came from elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.datasets import definition, save_npz

from mlnet.data import DatasetLimits, LinkPolicy, dataset, fetch, read_segment, split
from mlnet.errors import DataError, HashMismatch, LabelError, StorageError, TooFewRows
from mlnet.kernels import segmenthash
from mlnet.task.segments import SEGMENTS
from mlnet.util import files


def three_classes(path: Path) -> dict[str, object]:
    return {
        "dataset": {"format": "NPZ", "source": {"features": path.name}},
        "layers": [{"id": 1, "type": "Dense", "nodes": 3, "activation": "Linear"}],
    }


def test_split_keeps_every_row_once(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "data.npz", 57)
    dataset = split(definition(**three_classes(path)), tmp_path, tmp_path)
    assert (dataset.inputs, dataset.outputs, dataset.rows) == (4, 3, 57)
    assert [segment.rows for segment in dataset.segments] == [5, 6, 6, 5, 6, 6, 5, 6, 6, 6]
    parts = [load_file(path) for path in dataset.files]
    features = np.concatenate([part["features"] for part in parts])
    labels = np.concatenate([part["labels"] for part in parts])
    source = np.load(path)
    order = np.lexsort(source["features"].T)
    found = np.lexsort(features.T)
    np.testing.assert_array_equal(features[found], source["features"][order])
    np.testing.assert_array_equal(labels[found], source["labels"][order])
    assert not np.array_equal(features, source["features"])


def test_split_is_deterministic_and_names_files_truly(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "data.npz", 40)
    (tmp_path / "again").mkdir()
    first = split(definition(**three_classes(path)), tmp_path, tmp_path)
    second = split(definition(**three_classes(path)), tmp_path, tmp_path / "again")
    assert [s.root for s in first.segments] == [s.root for s in second.segments]
    assert len({s.root for s in first.segments}) == SEGMENTS
    for segment, file in zip(first.segments, first.files, strict=True):
        content = file.read_bytes()
        assert (segment.size, segment.root) == (len(content), segmenthash.digest(content).hex())
    assert first.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_equal_rows_give_different_segments(tmp_path: Path) -> None:
    path = tmp_path / "same.npz"
    np.savez(path, features=np.ones((10, 4)), labels=np.zeros(10, np.int64))
    dataset = split(definition(**three_classes(path)), tmp_path, tmp_path)
    assert len({segment.root for segment in dataset.segments}) == SEGMENTS


def test_mnist_hash_covers_both_files(tmp_path: Path) -> None:
    images = struct.pack(">HBB3I", 0, 8, 3, 10, 2, 2) + bytes(range(40))
    labels = struct.pack(">HBBI", 0, 8, 1, 10) + bytes([0, 1] * 5)
    (tmp_path / "images").write_bytes(images)
    (tmp_path / "labels").write_bytes(labels)
    task = definition(
        dataset={
            "format": "MNIST",
            "source": {"features": "images", "labels": "labels"},
            "sha256": hashlib.sha256(images + labels).hexdigest(),
        }
    )
    dataset = split(task, tmp_path, tmp_path)
    assert (dataset.inputs, dataset.rows) == (4, 10)
    (tmp_path / "labels").write_bytes(labels[:-1] + b"\2")
    with pytest.raises(HashMismatch, match=r"ml\.dataset\.sha256"):
        split(task, tmp_path, tmp_path)


def test_csv_dataset(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("kind,x\n" + "".join(f"{row % 3},{row}\n" for row in range(12)))
    task = definition(
        dataset={
            "format": "CSV",
            "source": {"features": "data.csv"},
            "header": True,
            "label-column": "kind",
        },
        layers=[{"id": 1, "type": "Dense", "nodes": 3, "activation": "Linear"}],
    )
    table = load_file(split(task, tmp_path, tmp_path).files[0])
    assert (table["features"].reshape(-1) % 3 == table["labels"]).all()


@pytest.mark.parametrize("source", ["missing.npz", ".", "ftp://host/file", "file:///missing.npz"])
def test_unreachable_dataset_is_named(tmp_path: Path, source: str) -> None:
    task = definition(dataset={"source": {"features": source}})
    with pytest.raises(DataError) as error:
        split(task, tmp_path, tmp_path)
    assert source.removeprefix("file://").strip(".") in str(error.value)


def test_too_few_rows(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "few.npz", 9)
    with pytest.raises(TooFewRows, match="9 rows"):
        split(definition(**three_classes(path)), tmp_path, tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_labels_that_do_not_fit_the_output_layer(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "data.npz", 50, classes=9)
    with pytest.raises(
        LabelError, match=r"there are 9 different labels .* last layer has 3 nodes: write 9 nodes"
    ):
        split(definition(**three_classes(path)), tmp_path, tmp_path)


def test_features_and_labels_of_different_length(tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    np.savez(path, features=np.ones((12, 4)), labels=np.zeros(11, np.int64))
    with pytest.raises(DataError, match="12 rows of features but 11 labels"):
        split(definition(**three_classes(path)), tmp_path, tmp_path)


def test_read_segment_gives_back_what_was_written(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "data.npz", 30)
    dataset = split(definition(**three_classes(path)), tmp_path, tmp_path)
    rows = dataset.segments[3].rows
    table = read_segment(dataset.files[3], inputs=4, outputs=3, classes=True, rows=rows)
    assert table.features.shape == (3, 4)
    assert table.labels.dtype == np.int64


F32 = np.ones((3, 4), np.float32)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"features": F32}, "holds the tensors"),
        ({"features": F32, "labels": np.zeros(3, np.int64), "more": F32}, "holds the tensors"),
        ({"features": F32[:2], "labels": np.zeros(2, np.int64)}, "features is F32"),
        ({"features": F32[:, :2].copy(), "labels": np.zeros(3, np.int64)}, "features is F32"),
        ({"features": F32.astype(np.float64), "labels": np.zeros(3, np.int64)}, "features is F64"),
        ({"features": F32, "labels": np.zeros(3, np.int32)}, "labels is I32"),
        ({"features": F32, "labels": np.zeros((3, 1), np.int64)}, "labels is I64"),
        ({"features": F32 * np.float32("nan"), "labels": np.zeros(3, np.int64)}, "NaN"),
    ],
)
def test_read_segment_refuses_other_tensors(
    tmp_path: Path, tensors: dict[str, np.ndarray], message: str
) -> None:
    path = tmp_path / "segment"
    save_file(tensors, path)
    with pytest.raises(DataError, match=message):
        read_segment(path, inputs=4, outputs=3, classes=True, rows=3)


def test_read_segment_refuses_labels_out_of_range(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    save_file({"features": F32, "labels": np.array([0, 1, 3])}, path)
    with pytest.raises(LabelError, match=r"labels\[2\] is 3"):
        read_segment(path, inputs=4, outputs=3, classes=True)


def test_read_segment_takes_no_more_than_the_limits(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    save_file({"features": F32, "labels": np.zeros(3, np.int64)}, path)
    with pytest.raises(DataError, match="take more than 40 bytes"):
        read_segment(path, inputs=4, outputs=3, classes=True, limits=DatasetLimits(table_bytes=40))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04\x95",
        struct.pack("<Q", 1 << 40) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 100) + b"{}",
        (lambda header: struct.pack("<Q", len(header)) + header + bytes(8))(
            json.dumps({"features": {"dtype": "F32", "shape": [1 << 40, 4], "data_offsets": [0, 8]}}).encode()
        ),
    ],
)
def test_read_segment_refuses_what_is_no_safetensors_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "segment"
    path.write_bytes(content)
    with pytest.raises(DataError):
        read_segment(path, inputs=4, outputs=3, classes=True)


def test_segments_are_not_cut_where_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_npz(tmp_path / "data.npz", 57)
    monkeypatch.setattr(files, "free", lambda _: 4096)
    with pytest.raises(StorageError, match=r"but the segments of the dataset take 0\.6 MiB") as told:
        split(definition(**three_classes(path)), tmp_path, tmp_path)
    assert str(told.value).endswith("choose another --data-dir")
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("step", ["verified", "read", "_cut"])
@pytest.mark.parametrize("change", ["written", "replaced", "removed", "cut short"])
def test_a_dataset_that_changes_while_it_is_read(
    step: str, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was made of it: the change is told, not what it looked like."""
    path = save_npz(tmp_path / "data.npz", 57)
    other = save_npz(tmp_path / "other.npz", 60)
    real = getattr(dataset, step)

    def changed(*rest: object, **options: object) -> object:
        match change:
            case "written":
                path.write_bytes(other.read_bytes())
            case "replaced":
                other.replace(path)
            case "removed":
                path.unlink()
            case "cut short":
                path.write_bytes(path.read_bytes()[:100])
        return real(*rest, **options)

    monkeypatch.setattr(dataset, step, changed)
    with pytest.raises(DataError, match="changed while it was read; wait until whatever writes it has ended"):
        split(definition(**three_classes(path)), tmp_path, tmp_path)


@pytest.mark.parametrize("step", ["read", "_cut"])
@pytest.mark.parametrize("rewritten", [True, False])
def test_a_dataset_whose_size_and_time_are_set_back(
    step: str, rewritten: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told from one that has got another name or owner, by its content."""
    path = save_npz(tmp_path / "data.npz", 57)
    real = getattr(dataset, step)

    def touched(*rest: object, **options: object) -> object:
        before = path.stat()
        if rewritten:
            path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return real(*rest, **options)

    monkeypatch.setattr(dataset, step, touched)
    if not rewritten:
        assert split(definition(**three_classes(path)), tmp_path, tmp_path).rows == 57
        return
    with pytest.raises(DataError, match="changed while it was read"):
        split(definition(**three_classes(path)), tmp_path, tmp_path)


async def test_a_full_disk_is_not_taken_for_a_bad_link(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    source = tmp_path / "source"
    source.write_bytes(bytes(1 << 20))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"here cannot be written: File too large; free some space"):
            await fetch(
                source.as_uri(),
                digest="0" * 64,
                size=1 << 20,
                destination=tmp_path / "here",
                policy=LinkPolicy((tmp_path,)),
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [*tmp_path.glob(".here*"), *tmp_path.glob("here")]  # noqa: ASYNC240

"""Reading of IDX, NPZ and CSV files."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlnet.data.formats import idx, npz
from mlnet.data.formats.csv_file import CsvRows, Wanted, read_rows
from mlnet.data.formats.csv_layout import detect
from mlnet.data.labels import as_classes, as_labels, as_targets
from mlnet.data.schema import Dialect
from mlnet.data.table import DatasetLimits, as_features
from mlnet.errors import DataError, LabelError

SMALL = DatasetLimits(source_bytes=1 << 20, table_bytes=4096, rows=100, columns=64, line_bytes=200)


def idx_bytes(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_images_are_rows(tmp_path: Path, pack: object) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "images"
    path.write_bytes(pack(idx_bytes(pixels)))  # type: ignore[operator]
    images = idx.read_images(path, SMALL)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, pixels.reshape(2, 12))
    assert idx.is_one(path)


def test_idx_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(gzip.compress(idx_bytes(np.array([3, 1, 2], dtype=np.uint8))))
    assert idx.read_labels(path, SMALL).tolist() == [3, 1, 2]
    with pytest.raises(DataError, match="holds no images"):
        idx.read_images(path, SMALL)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends after 0 of 4 bytes"),
        (b"PK\3\4 something else", "not an IDX file"),
        (idx_bytes(np.zeros((2, 2, 2), np.uint8))[:-1], "ends after 7 of 8 bytes"),
        (idx_bytes(np.zeros((2, 2, 2), np.uint8)) + b"x", "more bytes than its header says"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**16, 2**16), "rows of"),
        (struct.pack(">HBB3I", 0, 8, 3, 99, 8, 8), "take more than 4096 bytes"),
        (gzip.compress(idx_bytes(np.zeros((2, 2, 2), np.uint8)), mtime=0)[:-9], "cannot be read"),
        (b"\x1f\x8b garbage", "cannot be read"),
    ],
)
def test_idx_refuses(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        idx.read_images(path, SMALL)
    assert str(path) in str(error.value)


def test_idx_stops_at_the_announced_size_of_a_gzip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros((2, 2, 2), np.uint8)) + bytes(50_000_000)))
    with pytest.raises(DataError, match="more bytes than its header says"):
        idx.read_images(path, SMALL)


def test_npz_one_file_or_two(tmp_path: Path) -> None:
    both, alone = tmp_path / "both.npz", tmp_path / "alone.npz"
    np.savez_compressed(both, features=np.ones((3, 2)), labels=np.array([0, 1, 2]))
    np.savez(alone, anything=np.array([2, 1, 0]))
    np.save(tmp_path / "plain.npy", np.array([5, 6]))
    assert npz.read(both, "features", SMALL, alone=False).shape == (3, 2)
    assert npz.read(both, "labels", SMALL, alone=True).tolist() == [0, 1, 2]
    assert npz.read(alone, "labels", SMALL, alone=True).tolist() == [2, 1, 0]
    assert npz.read(tmp_path / "plain.npy", "labels", SMALL, alone=True).tolist() == [5, 6]
    with pytest.raises(DataError, match=r"no array 'labels'.*anything"):
        npz.read(alone, "labels", SMALL, alone=False)


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "<i4", ">i8", "f2", "<f4", ">f8"])
@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_reads_what_numpy_writes(tmp_path: Path, dtype: str, shape: tuple[int, ...], order: Any) -> None:
    array = np.asarray(np.arange(math.prod(shape)).reshape(shape), dtype=dtype, order=order)
    np.savez(tmp_path / "x.npz", features=array)
    found = npz.read(tmp_path / "x.npz", "features", SMALL, alone=False)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_npz_never_unpickles(tmp_path: Path) -> None:
    path = tmp_path / "pickle.npz"
    np.savez(path, features=np.array([[object()]], dtype=object))
    with pytest.raises(DataError, match="holds Python objects"):
        npz.read(path, "features", SMALL, alone=False)


def test_npz_believes_no_header(tmp_path: Path) -> None:
    """A few bytes that claim a large array are refused before memory is taken for it."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": (16, 32), "fortran_order": False, "descr": "<f4"})
    path = tmp_path / "liar.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("features.npy", header.getvalue() + b"short")
    with pytest.raises(DataError, match="asks for 2048 bytes, 5 are there"):
        npz.read(path, "features", SMALL, alone=False)


def test_npz_refuses_a_bomb_by_its_shape(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, features=np.zeros((100, 64), dtype=np.float64))
    with pytest.raises(DataError, match="take more than 4096 bytes"):
        npz.read(path, "features", SMALL, alone=False)


@pytest.mark.parametrize("content", [b"", b"not a zip at all", b"PK\3\4" + bytes(40)])
def test_npz_refuses_what_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as NPZ|is a text, such as a CSV"):
        npz.read(path, "features", SMALL, alone=False)


def csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "data.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def read(path: Path, dialect: Dialect = Dialect(), limits: DatasetLimits = SMALL) -> CsvRows:  # noqa: B008
    """All columns, of which the last is the label."""
    layout = detect(path, dialect, limits)
    last = layout.width - 1
    return read_rows(path, layout, Wanted(range(last), last, texts=True), limits)


def test_csv_quotes_blank_lines_and_line_ends(tmp_path: Path) -> None:
    rows = read(csv(tmp_path, 'a;"b";kind\r\n1;2;7\r\n\r\n3;"4";8\r\n'))
    assert rows.labels is not None
    assert rows.labels.tolist() == [7, 8]
    assert rows.numbers.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "header", "message"),
    [
        ("1,2\n3,4\nx,5\n", False, "line 3, column 0: 'x' is not a finite number"),
        ("a,b\n1,2\n", False, "line 1, column 0: 'a' is not a finite number; set 'ml.dataset.header: true'"),
        ("a,b\n\n1,2\n,3\n", True, "line 4, column 0 'a': '' is a missing value; fill it in"),
        ("a,b\n1,2\n3,NA\n", True, "line 3, column 1 'b': 'NA' is a missing value"),
        ("1,2\n3,4,5\n3,4\n", False, "line 2: 3 values where the lines before have 2"),
        ("1,2\nnan,3\n", False, "line 2, column 0: 'nan'"),
        ("1,2\ninf,3\n", False, "line 2, column 0: 'inf' stands for a number that could not be"),
        ("1,2\n1e39,3\n", False, "line 2, column 0: '1e39' is not a finite number of 32 bits"),
        ("a\tb\n1\t2\n\t\n3\t4\n", None, "line 3 holds no values; remove the line"),
        ("a,b\n1,x\n,y\n", None, "line 3, column 0 'a': '' is a missing value"),
        ("a,b,c\n1,2\n1,2\n", True, "line 1 names 3 columns and the rows have 2"),
        ("1,2\n1e39,3\n", False, "or scale the column down"),
        (
            "1,2\n\uff11\uff12,3\n",
            False,
            "line 2, column 0: '\uff11\uff12' is a number in other digits than 0 to 9",
        ),
        ("a,b\n", True, "holds no rows"),
        ("", False, "holds no rows"),
        ("1," * 300, False, "line 1: longer than 200 characters"),
        ("a;b\n1;2\n", None, None),
        ("1,5;2\n2,5;3\n", None, None),
    ],
)
def test_csv_names_the_line(tmp_path: Path, text: str, header: bool | None, message: str | None) -> None:
    path = csv(tmp_path, text)
    if message is None:
        assert len(read(path).numbers)
        return
    with pytest.raises(DataError, match=message):
        read(path, Dialect("," if header is not None else None, header))


def test_a_value_longer_than_any_number_is_named(tmp_path: Path) -> None:
    path = csv(tmp_path, "1" * 200_000 + ",2\n3,4\n")
    with pytest.raises(DataError, match="line 1: a value is longer than"):
        read(path, limits=DatasetLimits())


def test_a_decimal_comma_in_quotes_is_told_from_the_delimiter(tmp_path: Path) -> None:
    rows = read(csv(tmp_path, 'a,b,y\n"1,5","2,25",0\n"3,5","4,75",1\n'))
    assert rows.numbers.tolist() == [[1.5, 2.25], [3.5, 4.75]]


def test_csv_counts_lines_over_blocks_and_line_ends_in_quotes(tmp_path: Path) -> None:
    text = '"a\n(cm)",b\n' + "1,2\n" * 5000 + "oops,1\n"
    with pytest.raises(DataError, match=r"line 5003, column 0 'a \(cm\)'"):
        read(csv(tmp_path, text), limits=DatasetLimits())


def test_a_label_that_is_a_text_late_in_the_file(tmp_path: Path) -> None:
    rows = read(csv(tmp_path, "1.5,2\n" * 600 + "1.5,other\n"), limits=DatasetLimits())
    assert rows.labels is not None
    assert rows.labels.tolist() == ["2"] * 600 + ["other"]


def test_csv_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "binary.csv"
    path.write_bytes(b"\xfe\xfd\x00\x01")
    with pytest.raises(DataError, match="UTF-8"):
        read(path)


def test_a_gzip_bomb_ends_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv"
    path.write_bytes(gzip.compress(b"1,2\n" * 1_000_000))
    with pytest.raises(DataError, match="rows of 2 values are more than 100"):
        read(path)
    path.write_bytes(gzip.compress(b"1" * 50_000_000))
    with pytest.raises(DataError, match="line 1: longer than 200"):
        read(path)


def test_features_must_be_a_finite_table() -> None:
    assert as_features("x", np.zeros((2, 3, 4), np.uint8)).shape == (2, 12)
    with pytest.raises(DataError, match=r"features\[1\] holds a NaN"):
        as_features("x", np.array([[1.0], [np.nan]]))
    with pytest.raises(DataError, match="shape"):
        as_features("x", np.zeros(3))
    with pytest.raises(DataError, match="not numbers"):
        as_features("x", np.array([["a"]]))


@pytest.mark.parametrize("values", [[0, 1, 2], [0.0, 1.0, 2.0], [[0], [1], [2]]])
def test_class_numbers(values: list[float]) -> None:
    labels = as_labels("x", np.array(values), classes=True, outputs=3)
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 3], r"labels\[1\] is 3"),
        ([-1, 0], r"labels\[0\] is -1"),
        ([0, 0.5], r"labels\[1\] is 0.5, which is not a class"),
        ([0, np.nan], r"labels\[1\] is nan"),
        ([[0, 1]], "2 columns; CrossEntropy needs one"),
        (["a"], "labels of type text are not class numbers; write whole numbers from 0"),
    ],
)
def test_labels_that_do_not_fit_classes(values: list[object], message: str) -> None:
    with pytest.raises(LabelError, match=message):
        as_labels("x", np.array(values), classes=True, outputs=3)


def test_targets_of_a_regression() -> None:
    assert as_labels("x", np.array([1, 2]), classes=False, outputs=1).tolist() == [[1.0], [2.0]]
    with pytest.raises(LabelError, match="1 columns and the model's last layer 2 nodes"):
        as_labels("x", np.array([1, 2]), classes=False, outputs=2)
    with pytest.raises(LabelError, match=r"labels\[0\] holds a NaN"):
        as_labels("x", np.array([np.inf]), classes=False, outputs=1)


def classes_of(
    values: list[object], outputs: int, declared: tuple[int | str, ...] = ()
) -> tuple[list[int], tuple[int | str, ...]]:
    kind = object if isinstance(values[0], str) else None
    numbers, classes = as_classes("x", np.array(values, dtype=kind), outputs, declared, "labels[{}]".format)
    return numbers.tolist(), classes


@pytest.mark.parametrize(
    ("values", "declared", "numbers", "classes"),
    [
        ([0, 2, 0], (), [0, 2, 0], (0, 1, 2)),
        ([1, 3, 2], (), [0, 2, 1], (1, 2, 3)),
        ([-1.0, 1.0, 5.0], (), [0, 1, 2], (-1, 1, 5)),
        (["b", "a", "c"], (), [1, 0, 2], ("a", "b", "c")),
        (["2", "1", "3"], (), [1, 0, 2], (1, 2, 3)),
        (["b", "a"], ("c", "b", "a"), [1, 2], ("c", "b", "a")),
        ([5, 7], (7, 5, 6), [1, 0], (7, 5, 6)),
        ([True, False], (0, 1, 2), [1, 0], (0, 1, 2)),
    ],
)
def test_classes_keep_their_names(values: Any, declared: Any, numbers: list[int], classes: Any) -> None:
    assert classes_of(values, 3, declared) == (numbers, classes)


@pytest.mark.parametrize(
    ("values", "declared", "message"),
    [
        ([0, 1, 2, 3], (), r"labels\[3\] is 3; there are 4 different labels .*write 4 nodes"),
        (["a", "b"], (), r"labels\[0\] is 'a'; there are 2 different labels .*ml.dataset.classes"),
        (["a", "z"], ("a", "b", "c"), r"labels\[1\] is 'z', which ml.dataset.classes does not name"),
        ([0, 1], (0, 1), "names 2 classes and the model's last layer has 3 nodes"),
        ([0.5, 1], (), "which is not a class"),
    ],
)
def test_classes_that_do_not_fit(values: Any, declared: Any, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        classes_of(values, 3, declared)


def test_texts_are_no_targets() -> None:
    with pytest.raises(LabelError, match="texts are labels of a classifier"):
        as_targets("x", np.array(["a"]), 1)

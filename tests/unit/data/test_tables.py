"""Tables as people save them: read alike in training and by predict, or refused in one line that helps."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.datasets import definition

from mlnet.data import Dataset, rows, split
from mlnet.errors import DataError

ROWS = 24
VALUES = np.array([(row % 7 + 0.5, row % 3 - 0.25, row % 2) for row in range(ROWS)], dtype=np.float32)
LINES = [f"{first:.1f},{second:.2f},{label:.0f}" for first, second, label in VALUES.tolist()]
NAMES = "length,width,kind"


def table(delimiter: str = ",", end: str = "\n", header: str = NAMES, after: str = "") -> str:
    lines = [header.replace(",", delimiter), *(line.replace(",", delimiter) + after for line in LINES)]
    return "".join(line + end for line in (lines if header else lines[1:]))


def cut(directory: Path, content: str | bytes, **keys: Any) -> Dataset:
    data = content if isinstance(content, bytes) else content.encode()
    (directory / "t.csv").write_bytes(data)
    layers = [{"id": 1, "type": "Dense", "nodes": 2, "activation": "Linear"}]
    dataset = {"format": "CSV", "source": {"features": "t.csv"}, **keys}
    return split(definition(dataset=dataset, layers=layers), directory, directory)


ALIGNED = "".join(f"{a:>8} {b:>8} {c:>5}\n" for a, b, c in (line.split(",") for line in [NAMES, *LINES]))
COUNTED = "0,1,2\n" + "".join(f"{line}\n" for line in LINES[1:])
UNDERSTOOD: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "plain": (table(), {}, "line 1 looks like names"),
    "a mark at the start (BOM)": ("\ufeff" + table(), {}, "line 1"),
    "Excel's Unicode text": (table("\t").encode("utf-16"), {}, '"\\t"'),
    "UTF-16 of the other order": (b"\xfe\xff" + table().encode("utf-16-be"), {}, "line 1"),
    "UTF-16 without a mark": (table().encode("utf-16-le"), {}, "line 1"),
    "UTF-16 of the other order without a mark": (table().encode("utf-16-be"), {}, "line 1"),
    "Windows' line ends": (table(end="\r\n"), {}, "line 1"),
    "old Macintosh's line ends": (table(end="\r"), {}, "line 1"),
    "line ends that were converted twice": (table(end="\r\r\n"), {}, "line 1"),
    "no line end at the end": (table().rstrip("\n"), {}, "line 1"),
    "blank lines at the end": (table() + "\n\n \n", {}, "line 1"),
    "aligned by blanks": (ALIGNED, {}, '" "'),
    "Excel's sep": (
        "sep=;\n" + table(";"),
        {},
        "a line sep=; above the table names the delimiter; line 2 looks",
    ),
    "Excel's sep for a comma": ("sep=,\n" + table(), {}, "a line sep=, above the table"),
    "a delimiter at the end": (table(after=",", header=f"{NAMES},"), {}, "the empty last column is ignored"),
    "Excel's empty columns": (table(after=",,,", header=f"{NAMES},,,"), {}, "the 3 empty last columns are"),
    "delimiters at the end, below names": (table(after=",,"), {}, "the 2 empty last columns are ignored"),
    "delimiters at the end, no names": (table(after=",,", header=""), {}, "the 2 empty last columns"),
    "a name twice": (table(header="x,x,kind"), {}, "line 1"),
    "a line end in a name": (table().replace("length", '"length\nin cm"'), {}, "line 1"),
    "a comment at the end": (table() + "# measured by hand\n", {}, "lines that begin with # are comments"),
    "blanks before quotes": (
        table().replace(",0\n", ', "0"\n').replace(",1\n", ', "1"\n'),
        {},
        "line 1 looks like names",
    ),
    "gzip": (gzip.compress(table().encode()), {}, "line 1"),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_training_and_predict_read_the_same(tmp_path: Path, name: str) -> None:
    content, keys, note = UNDERSTOOD[name]
    dataset = cut(tmp_path, content, **keys)
    assert note in "; ".join(dataset.notes)
    parts = [load_file(path) for path in dataset.files]
    found = np.concatenate([np.column_stack([part["features"], part["labels"]]) for part in parts])
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, VALUES.tolist()))
    again = rows.read(tmp_path / "t.csv", dataset.inputs, dataset.schema)
    np.testing.assert_array_equal(again.features, VALUES[:, :2])


def test_a_first_row_that_counts_is_a_row_where_the_definition_says_so(tmp_path: Path) -> None:
    """0, 1, 2 above fractions could be names that pandas wrote."""
    counted = "0,1,2,3,4,1\n" + "".join(f"{row}.5,2,3,4,5,{row % 2}\n" for row in range(ROWS))
    dataset = cut(tmp_path, counted, header=False)
    assert dataset.rows == ROWS + 1
    found = rows.read(tmp_path / "t.csv", dataset.inputs, dataset.schema)
    assert len(found.features) == ROWS + 1
    (tmp_path / "new.csv").write_text("0,1,2,3,4\n" + "1.5,1,2,3,4\n" * 3)
    assert len(rows.read(tmp_path / "new.csv", dataset.inputs, dataset.schema).features) == 4
    (tmp_path / "named.csv").write_text("a,b,c,d,e\n" + "1.5,1,2,3,4\n" * 3)
    assert len(rows.read(tmp_path / "named.csv", dataset.inputs, dataset.schema).features) == 3


def test_numbers_that_are_taken_for_names_are_told(tmp_path: Path) -> None:
    body = "".join(f"{row}.5,2,3,4,{row % 2}\n" for row in range(ROWS))
    assert "line 1 looks like names: 0, 1, 2, ..." in cut(tmp_path, "0,1,2,3,4\n" + body).notes
    dataset = cut(tmp_path, body)
    (tmp_path / "new.csv").write_text("0,1,2,3,4\n" + body)
    found = rows.read(tmp_path / "new.csv", dataset.inputs, dataset.schema)
    assert len(found.features) == ROWS
    assert "the line 0, 1, 2, ... is taken for names; --no-header says that it is a row" in found.notes


LATIN = table(header="l\u00e4nge,width,kind").encode("cp1252")
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "Windows' text": (
        LATIN,
        r"line 1 holds the byte 0xE4, .* it is '\u00e4'. .*iconv -f cp1252 -t utf-8 t.csv >",
    ),
    "Windows' text, packed": (gzip.compress(LATIN), r"zcat t.csv \| iconv -f cp1252"),
    "Windows' text, late": (table().encode() + b"\xe9\n", "line 26 holds the byte 0xE9"),
    "bytes of no text": (
        table().encode() + b"\x81\n",
        "0x81, which is not UTF-8, and no text of Windows either",
    ),
    "a character cut short": (table().encode() + b"\xc3", "ends within a character of UTF-8"),
    "half a character of UTF-16": (table().encode("utf-16")[:-1], "is not whole UTF-16 text"),
    "UTF-32": (table().encode("utf-32"), "is UTF-32 text, not CSV; save it as UTF-8"),
    "a NUL byte": (table().replace("2.5", "2.\0005", 1), "line 4 holds a NUL byte"),
    "NUL bytes at the end": (table() + "\0\0\0", "line 26 holds a NUL byte"),
    "a Ctrl-Z at the end": (table() + "\x1a", r"line 26 begins with a Ctrl-Z .*tr -d '\\032' < t.csv"),
    "a Ctrl-Z within": (table().replace("2.5", "2.\x1a5", 1), "line 4 holds a Ctrl-Z"),
    "a row of delimiters": (table() + ",,\n", "line 26 holds no values; remove the line"),
    "a row cut short": (table() + "1.5,2", "line 26: 2 values where the lines before have 3"),
    "names above joined files": (
        table() + table(),
        "line 26 repeats the names of the columns; remove the line",
    ),
    "joined tables of texts": (
        ("sort,size,kind\n" + "".join(f"{'xy'[row % 2]},{row}.5,{row % 2}\n" for row in range(ROWS))) * 2,
        "line 26 repeats the names of the columns",
    ),
    "units below the names": (
        table().replace(NAMES, f"{NAMES}\ncm,cm,-"),
        "the first 2 rows, from line 1 on, hold no numbers, and one line can name the columns",
    ),
    "an open quotation mark": (table().replace("\n2.5", '\n"2.5'), "line 4: a quotation mark is not closed"),
    "an open quotation mark in the last column": (
        "kind,sort\n"
        + "".join(f"{row % 2},{'abc'[row % 3] if row != 12 else chr(34)}\n" for row in range(ROWS)),
        "line 14: a quotation mark is not closed, so that the lines below belong to its text; close it",
    ),
    "an open quotation mark in the last line": (
        table() + '1.5,1.5,"1',
        "line 26: a quotation mark is not closed",
    ),
    "a number of Fortran": (table().replace("2.5", "2.5D+01"), "'2.5D\\+01' is a number of Fortran; write E"),
    "a sum": (table() + "Total,7,1\n", "line 26, column 0 'length': 'Total' is not a finite number"),
    "a title": (
        "Results\n" + table(),
        "line 1 names 1 column and the rows have 3; .*remove it if it is a title",
    ),
    "thousands": (
        table().replace("2.5", '"2,500"'),
        "line 4, column 0: is the comma of '2,500' a decimal point",
    ),
    "thousands of Europe": (
        table(";").replace(".", ",").replace("2,5", "1.002,5"),
        "line 4, column 0 'length': '1.002,5' is a number with marks between its thousands",
    ),
    "a percentage": (
        table().replace("2.5", "2.5%"),
        "line 4, .*'2.5%' is a percentage; write the number alone",
    ),
    "a spreadsheet's missing value": (
        table().replace("\n2.5", "\n#N/A"),
        "line 4, .*'#N/A' is a missing value",
    ),
    "a spreadsheet's error": (table().replace("2.5", "#REF!"), "line 4, .* is an error of a spreadsheet"),
    "an empty column": (
        "a,b,kind\n" + "".join(f"{row}.5,,{row % 2}\n" for row in range(ROWS)),
        r"if the whole column is empty, ml.dataset.ignore-columns: \[b\] leaves it out",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_certain_is_refused_in_a_line(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    keys: dict[str, Any] = {"label-column": "kind"} if "column" in name else {}
    with pytest.raises(DataError, match=message) as error:
        cut(tmp_path, content, **keys)
    assert "\n" not in str(error.value)


def test_an_error_of_a_spreadsheet_is_no_comment(tmp_path: Path) -> None:
    """Not even far below a line that shows that there are comments."""
    text = "# of a sensor\n" + table() + table(header="") * 30 + "#N/A,1,1\n"
    with pytest.raises(DataError, match=f"line {2 + 31 * ROWS + 1}, column 0 'length': '#N/A' is a missing"):
        cut(tmp_path, text)


def folder(directory: Path, files: dict[str, str]) -> Path:
    (directory / "parts").mkdir()
    for name, content in files.items():
        (directory / "parts" / name).write_text(content)
    return directory / "parts"


def cut_folder(directory: Path, kind: str = "CSV", labels: str | None = None, **keys: Any) -> Dataset:
    layers = [{"id": 1, "type": "Dense", "nodes": 2, "activation": "Linear"}]
    source = {"features": "parts"} | ({"labels": labels} if labels else {})
    dataset = {"format": kind, "source": source, **keys}
    return split(definition(dataset=dataset, layers=layers), directory, directory)


def test_a_directory_of_tables_is_one_dataset(tmp_path: Path) -> None:
    body = [f"{['x', 'y', 'z'][row // 10]},{row}.5,{row % 2}\n" for row in range(30)]
    files = {f"part-{at}": "sort,size,kind\n" + "".join(body[at * 10 : at * 10 + 10]) for at in range(3)}
    whole = "".join(files.values()).encode()
    parts = folder(tmp_path, {**files, ".hidden": "no table", "_SUCCESS": ""})
    dataset = cut_folder(tmp_path, sha256=hashlib.sha256(whole).hexdigest())
    assert (dataset.rows, dataset.inputs) == (30, 4)
    assert dataset.notes[0] == "3 files"
    assert dataset.columns == ("column 0 'sort': 3 categories: x, y, z, as 3 inputs",)
    found = rows.read(parts, dataset.inputs, dataset.schema).features
    assert found[:, 3].tolist() == [row + 0.5 for row in range(30)]
    assert found[:, :3].argmax(axis=1).tolist() == [row // 10 for row in range(30)]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"a": table(), "b": table(header="width,length,kind")},
            "b has the columns width, length, kind, and a the",
        ),
        ({"a": table(), "b": "1,2\n3,4\n"}, "b has 2 columns without names, and a the columns length"),
        (
            {"a": table(), "b": table() + "x,1,1\n"},
            "b, line 26, column 0 'length': 'x' is not a finite number",
        ),
        ({"a": table(), "b": table(header="").replace("1\n", "7\n")}, "b has 3 columns without names"),
        ({"a": table(), "b": table() + "1,1,7\n"}, "the label in line 26 of b is 7"),
        (
            {"a": "c,d,y\n" + "p,1.5,0\n" * 12, "b": "c,d,y\n4,2.5,1\n"},
            "b, line 2, column 0 'c': '4' is a number",
        ),
        ({}, "holds 0 files"),
    ],
)
def test_files_that_do_not_go_together(tmp_path: Path, files: dict[str, str], message: str) -> None:
    folder(tmp_path, files)
    with pytest.raises(DataError, match=message):
        cut_folder(tmp_path)


def test_a_directory_of_directories(tmp_path: Path) -> None:
    (folder(tmp_path, {}) / "cats").mkdir()
    with pytest.raises(
        DataError, match=r"holds directories \(cats\), which are not read; give a directory that"
    ):
        cut_folder(tmp_path)


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def test_a_directory_of_pairs(tmp_path: Path) -> None:
    parts = folder(tmp_path, {})
    images = np.arange(96, dtype=np.uint8).reshape(24, 2, 2)
    labels = np.arange(24, dtype=np.uint8) % 2
    for name, some in (("t10k", slice(0, 10)), ("train", slice(10, 24))):
        (parts / f"{name}-images").write_bytes(idx(images[some]))
        (parts / f"{name}-labels").write_bytes(idx(labels[some]))
    dataset = cut_folder(tmp_path, "MNIST", "parts")
    assert (dataset.rows, dataset.inputs, dataset.schema.kind) == (24, 4, "bytes")
    found = np.concatenate([load_file(path)["features"] for path in dataset.files])
    assert sorted(np.round(found[:, 0] * 255).tolist()) == images[:, 0, 0].tolist()
    (parts / "train-labels").write_bytes(idx(labels[:3]))
    with pytest.raises(DataError, match="train-images has 14 rows of features and train-labels 3 labels"):
        cut_folder(tmp_path, "MNIST", "parts")
    (parts / "train-labels").unlink()
    with pytest.raises(
        DataError, match="2 files of features and 1 of labels; there must be one of labels for"
    ):
        cut_folder(tmp_path, "MNIST", "parts")


def test_a_directory_of_archives(tmp_path: Path) -> None:
    parts = folder(tmp_path, {})
    for name in ("a", "b"):
        np.savez(parts / f"{name}.npz", features=VALUES[:, :2], labels=VALUES[:, 2])
    dataset = cut_folder(tmp_path, "NPZ")
    assert (dataset.rows, dataset.inputs) == (2 * ROWS, 2)
    np.savez(parts / "c.npz", features=VALUES[:, :1], labels=VALUES[:, 2])
    with pytest.raises(
        DataError, match=r"c.npz holds an array of float32 and shape \(24, 1\), and a.npz one of"
    ):
        cut_folder(tmp_path, "NPZ")

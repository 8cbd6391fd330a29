"""What is said of tables and other files of rows: how they were understood, and why they are refused."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from support.datasets import definition
from support.message_cases import Case, check

from mlnet.data import labels, modelfile, rows, schema, split
from mlnet.data.formats import csv_file, csv_layout, npz
from mlnet.data.schema import Dialect, Schema
from mlnet.data.table import DatasetLimits

SMALL = DatasetLimits(source_bytes=1 << 20, table_bytes=1 << 16, rows=4096, columns=64, line_bytes=200)
ROWS = "".join(f"{n % 7}.5,{n % 3}.25,{n % 5}.5,{n % 2}\n" for n in range(12))


def csv(content: str | bytes, loss: str = "CrossEntropy", **keys: Any) -> Case:
    """What is said of a CSV: the error, or the notes."""

    def case(directory: Path) -> object:
        data = content if isinstance(content, bytes) else content.replace("ROWS", ROWS).encode()
        (directory / "data.csv").write_bytes(data)
        source = keys.get("source", {"features": "data.csv"})
        dataset = {"format": "CSV", **keys, "source": source}
        wanted = definition(dataset=dataset, loss=loss, metrics=(loss,))
        return "\n".join(split(wanted, directory, directory, SMALL).notes)

    return case


def test_how_tables_are_understood(tmp_path: Path) -> None:
    numbered = "".join(f"{n},{line}\n" for n, line in enumerate(ROWS.splitlines()))
    check(
        "notes",
        {
            "names": csv("a,b,c,kind\nROWS"),
            "no names": csv(ROWS),
            "semicolons and decimal commas": csv(ROWS.replace(",", ";").replace(".", ",")),
            "a delimiter at the end of each line": csv(ROWS.replace("\n", ",\n")),
            "Excel's sep": csv("sep=;\n" + ROWS.replace(",", ";")),
            "several delimiters at the end of each line": csv(ROWS.replace("\n", ",,\n")),
            "comments": csv("# of a sensor\nROWS"),
            "a comment that names the columns": csv("# a,b,c,kind\nROWS"),
            "an index": csv(f",a,b,c,kind\n{numbered}"),
            "pixels": csv(ROWS.replace(".5", "").replace(".25", "00")),
            "pixels that are to be scaled": csv(ROWS, scale="1/255"),
        },
        tmp_path,
    )


def test_tables_that_leave_a_doubt(tmp_path: Path) -> None:
    numbered = "".join(f"{n},{line}\n" for n, line in enumerate(ROWS.splitlines()))
    check(
        "doubts",
        {
            "rows that are numbered": csv(numbered),
            "a name, and no names": csv(ROWS, **{"label-column": "kind"}),
            "a name twice": csv("a,a,c,kind\nROWS", **{"label-column": "a"}),
            "a single column": csv("1.5\n" * 12),
            "names or values": csv("1,b,3,4\nROWS"),
            "a comment or a value": csv("#1,a,b,0\n" + "x,a,b,1\n" * 12),
            "thousands": csv('"1,000";2;0\n' * 12, delimiter=";"),
            "libsvm": csv("1 1:0.5 2:0.25\n" * 12),
            "ARFF": csv("@relation digits\nROWS"),
            "a decimal comma that was not told": csv("x;y;z\n1.5;2.5;0\n" + "1.5;2,5;0\n" * 12, decimal="."),
            "classes of a regression": csv(ROWS, "MSE", classes=["a", "b"]),
            "fewer classes than outputs": csv(ROWS, classes=["a", "b"]),
            "texts in the first line of a table without names": csv("a,b,c,d\nROWS", header=False),
            "a quote without an end": csv('"' + "x\n" * 70_000),
            "labels without number": many_labels,
            "a small file that becomes large": csv(
                gzip.compress(ROWS.encode() + (b"#" * 150 + b"\n") * 8000), comment="#"
            ),
            "a line within quotes that is too long": long_value,
            "a label that is no declared class": csv(ROWS, classes=[*range(1, 11)]),
        },
        tmp_path,
    )


def column(values: list[str], **keys: Any) -> Case:
    """What is said of a column of a table of 24 rows, and of what these become."""
    rows = [f"{values[n % len(values)]};{n % 7}.5;{n % 10}\n" for n in range(24)]

    def case(directory: Path) -> object:
        (directory / "data.csv").write_text("a;b;kind\n" + "".join(rows))
        dataset = split(
            definition(dataset={"format": "CSV", **keys, "source": {"features": "data.csv"}}),
            *(directory,) * 2,
        )
        return "\n".join(dataset.columns)

    return case


def warned(content: str) -> Case:
    """Of what a table that is accepted warns."""

    def case(directory: Path) -> object:
        (directory / "data.csv").write_text(content)
        dataset = {"format": "CSV", "source": {"features": "data.csv"}}
        return "\n".join(split(definition(dataset=dataset), directory, directory).warnings)

    return case


def test_columns_of_texts(tmp_path: Path) -> None:
    says = {"category-columns": ["a"]}
    check(
        "columns",
        {
            "categories": column(["male", "female"]),
            "a single category": column(["male"]),
            "categories that may be the same": column(["Male", "male", "female"]),
            "numbers that are categories": column(["3", "1", "2"], **says),
            "names": column([f"Mr. {n}" for n in range(24)]),
            "a number among texts": csv("a,b\n" + "male,1\nfemale,0\n" * 300 + "3,1\n"),
            "classes that no row has": warned(ROWS),
            "a typing error among numbers": column(["1", "2", "three"]),
            "two columns of texts": csv("".join(f"n{n},m{n},1.5,{n % 2}\n" for n in range(12))),
            "too many": csv("a,b\n" + "".join(f"n{n},{n % 2}\n" for n in range(4100))),
            "too many dates": csv(
                "a,b\n"
                + "".join(f"{1990 + n // 336}-{n // 28 % 12 + 1}-{n % 28 + 1},0\n" for n in range(4100))
            ),
            "the label": column(["male"], **{"category-columns": ["kind"]}),
            "an ignored column": column(["male"], **says, **{"ignore-columns": ["a"]}),
            "no value": column(["male", ""]),
            "an empty column": column([""]),
            "dates": column(["2020-01-03"]),
            "percentages": column(["5 %"]),
            "money": column(["$5.20"]),
            "thousands": column(["1,234.5"]),
            "a dash": column(["\u22125"]),
            "an accountant's minus": column(["(5)", "5"]),
            "units": column(["5 cm"]),
            "other digits": column(["\u0661\u0662"]),
            "Fortran": column(["1.5D+02"]),
            "a programming language": column(["1.5f"]),
            "names twice": csv(f"a,b,c,kind\n{ROWS}a,b,c,kind\n"),
            "units below the names": csv(f"a,b,c,kind\ncm,cm,g,-\n{ROWS}"),
            "an open quotation mark": csv(f'{ROWS}"1,2,3,4\n'),
            "one label": warned("1.5,2,0\n" * 12),
            "hexadecimal": column(["0x1F"]),
            "lists": column(["{1}", "3"]),
            "a spreadsheet's error": csv("a,b\n" + "1.5,#DIV/0!\n" * 12, **{"label-column": "a"}),
            "a spreadsheet's error that is no comment": csv(ROWS + "#N/A,1,2,3\n"),
            "formulas": column(["=B1"]),
        },
        tmp_path,
    )


def folder(files: dict[str, bytes], kind: str = "CSV", **keys: Any) -> Case:
    """What is said of a dataset that is a directory."""

    def case(directory: Path) -> object:
        (directory / "parts").mkdir()
        for name, content in files.items():
            path = directory / "parts" / name
            path.mkdir() if content == DIRECTORY else path.write_bytes(content)
        source = {"features": "parts"} | ({"labels": "parts"} if kind == "MNIST" else {})
        wanted = definition(dataset={"format": kind, "source": source, **keys})
        return "\n".join(split(wanted, directory, directory, SMALL).notes)

    return case


def test_directories(tmp_path: Path) -> None:
    table = f"a,b,c,kind\n{ROWS}".encode()
    one, other = (saved(np.ones((12, width)), np.arange(12)) for width in (2, 3))
    images = b"\0\0\x08\3\0\0\0\2\0\0\0\1\0\0\0\1ab"
    targets = b"\0\0\x08\1\0\0\0\1\1"
    check(
        "directories",
        {
            "tables": folder({"a.csv": table, "b.csv": table}),
            "other names": folder({"a.csv": table, "b.csv": table.replace(b"c,kind", b"d,kind")}),
            "no names": folder({"a.csv": table, "b.csv": ROWS.encode()}),
            "a label in one of them": folder({"a.csv": table, "b.csv": table + b"1,2,3,99\n"}),
            "nothing": folder({}),
            "a device": csv(ROWS, source={"features": "/dev/null"}),
            "directories": folder({"cats": DIRECTORY, "dogs": DIRECTORY}),
            "other arrays": folder({"a.npz": one, "b.npz": other}, "NPZ"),
            "pairs of other lengths": folder({"a": images, "b": targets, "c": images, "d": targets}, "MNIST"),
            "a file without its labels": folder({"a": images, "b": targets, "c": images}, "MNIST"),
            "labels alone": read({"labels": targets}),
        },
        tmp_path,
    )


DIRECTORY = b"a directory"


def many_labels(directory: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_file, "_MAX_CLASSES", 8)
        return csv("".join(f"1,2,3,row {n}\n" for n in range(12)))(directory)


def long_value(directory: Path) -> object:
    (directory / "data.csv").write_text('"' + "x" * 140_000 + "\n")
    return csv_layout.detect(directory / "data.csv", Dialect(), DatasetLimits())


KINDS = {
    "Parquet": b"PAR1",
    "Zip": b"PK\3\4",
    "Excel": b"\xd0\xcf\x11\xe0",
    "bzip2": b"BZh9",
    "xz": b"\xfd7zXZ\0",
    "zstd": b"\x28\xb5\x2f\xfd",
    "HDF5": b"\x89HDF",
    "SQLite": b"SQLite format 3\0",
    "Arrow": b"ARROW1",
    "NumPy": b"\x93NUMPY",
    "IDX": b"\0\0\x08\x01",
    "pickle": b"\x80\x04",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\n",
    "HTML": b"<!DOCTYPE html>",
    "XML": b"<?xml version='1.0'?>",
    "JSON": b'{"a": 1}',
}


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    check("no-tables", {kind: csv(start) for kind, start in KINDS.items()}, tmp_path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    table = f"a,b,c,kind\n{ROWS}"
    latin = table.replace("a", "\u00e4", 1).encode("cp1252")
    check(
        "bytes",
        {
            "Windows' text": csv(latin),
            "Windows' text, packed": csv(gzip.compress(latin)),
            "no text": csv(table.encode() + b"\x81\n"),
            "a character cut short": csv(table.encode() + b"\xc3"),
            "half a character of UTF-16": csv(table.encode("utf-16")[:-1]),
            "UTF-32": csv(table.encode("utf-32")),
            "NUL": csv(table + "\0"),
            "Ctrl-Z at the end": csv(table + "\x1a"),
            "Ctrl-Z": csv(table.replace("1", "1\x1a", 1)),
            "a row without values": csv(table + ",,,\n"),
        },
        tmp_path,
    )


def read(
    files: dict[str, bytes], known: Schema | None = None, name: str = "", dialect: Dialect | None = None
) -> Case:
    def case(directory: Path) -> object:
        for file, content in files.items():
            (directory / file).write_bytes(content)
        inputs = known.inputs if known else 3
        return "\n".join(rows.read(directory / name, inputs, known, dialect, SMALL).notes)

    return case


def saved(values: np.ndarray, targets: np.ndarray | None = None) -> bytes:
    file = io.BytesIO()
    arrays = {"features": values} | ({} if targets is None else {"labels": targets})
    np.savez(file, **cast(Any, arrays))
    return file.getvalue()


def test_new_rows(tmp_path: Path) -> None:
    named = Schema("CSV", 3, classes=(0, 1), width=4, names=("a", "b", "c", "kind"), label=3)
    bare = Schema("CSV", 3, classes=("cat", "dog"), width=5, label=3, ignored=(4,))
    texts = Schema("CSV", 4, width=4, names=("a", "b", "c", "kind"), label=3, categories={0: ("x", "y")})
    pixels = Schema("NPZ", 3, kind="bytes", divisor=255)
    table = ROWS.encode()
    check(
        "new-rows",
        {
            "numbers for names": read({"x.csv": b"0,1,2,3,4\n" + b"1.5,2,3,cat,1\n" * 3}, bare, "x.csv"),
            "an unknown category": read({"x.csv": b"a,b,c\n" + b"x,1,2\ny,1,2\nz,1,2\n"}, texts, "x.csv"),
            "a column is missing": read({"x.csv": b"a,b,x\n" + b"1,2,3\n" * 3}, named, "x.csv"),
            "a column is unknown": read({"x.csv": b"a,b,c,x\n" + b"1,2,3,4\n" * 3}, named, "x.csv"),
            "a name twice": read({"x.csv": b"a,a,b,c\n" + b"1,2,3,4\n" * 3}, named, "x.csv"),
            "too many columns": read({"x.csv": b"1.5,2,3,4,5,6\n" * 3}, bare, "x.csv"),
            "columns that may be two": read({"x.csv": b"1.5,2,3,4\n" * 3}, bare, "x.csv"),
            "something else than labels": read({"x.csv": b"1.5,2,3,bird,1\n" * 3}, bare, "x.csv"),
            "an array of another width": read({"x.npz": saved(np.ones((3, 2)))}, pixels, "x.npz"),
            "fractions for pixels": read({"x.npz": saved(np.full((3, 3), 7.5))}, pixels, "x.npz"),
            "bytes, and a model of numbers": read(
                {"x.npz": saved(np.full((3, 3), 200, np.uint8))}, Schema("NPZ", 3), "x.npz"
            ),
            "bytes, and a model of which nothing is known": read(
                {"x.npz": saved(np.full((3, 3), 200, np.uint8))}, None, "x.npz"
            ),
            "files of two formats": read({"x.csv": table, "y.npz": saved(np.ones((3, 3)))}, named),
            "an empty directory": read({}, named),
        },
        tmp_path,
    )


def test_descriptions_in_models(tmp_path: Path) -> None:
    def delivered(content: bytes) -> Case:
        def case(directory: Path) -> object:
            (directory / "m").write_bytes(content)
            return modelfile.deliver(directory / "m", directory / "n", Schema("NPZ", 3))

        return case

    def array(values: bytes) -> Case:
        def case(directory: Path) -> object:
            (directory / "x.npy").write_bytes(values)
            return npz.read(directory / "x.npy", "features", SMALL, alone=True)

        return case

    def header(text: str, version: bytes = b"\1\0") -> bytes:
        padded = f"{text}\n".encode()
        return (
            b"\x93NUMPY" + version + len(padded).to_bytes(2 if version == b"\1\0" else 4, "little") + padded
        )

    shape = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }"
    check(
        "descriptions",
        {
            "no JSON": lambda _: schema.from_json("{", "model.safetensors"),
            "a contradiction": lambda _: schema.from_json(
                '{"format": "CSV", "inputs": 3, "width": 9}', "model.safetensors"
            ),
            "names that are too long": lambda _: Schema("CSV", 1, names=("x" * schema.MAX_BYTES,)).to_json(),
            "a model of another kind": delivered(b"hello"),
            "a model with a damaged header": delivered((4).to_bytes(8, "little") + b"[{}]"),
            "an array of version 3": array(header(shape % "(2, 2)", b"\3\0")),
            "an impossible shape": array(header(shape % "(-1, 2)")),
        },
        tmp_path,
    )


def test_labels_of_segments(tmp_path: Path) -> None:
    def given(values: np.ndarray) -> Case:
        return lambda _: labels.as_labels("DIR/segment", values, classes=True, outputs=3)

    check(
        "labels",
        {
            "texts": given(np.array(["a", "b"])),
            "three dimensions": given(np.zeros((2, 2, 2))),
            "a class beyond the last": given(np.array([0, 3])),
            "a fraction": given(np.array([0.5])),
        },
        tmp_path,
    )

"""What is said of what other programs export: tables, arrays and definitions of other libraries."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from support.datasets import definition
from support.message_cases import Case, check

from mlnet.data import split
from mlnet.net import addresses
from mlnet.task import definition as task_definition
from mlnet.task import diagnosis

EXAMPLE = Path(__file__).parents[3] / "client-task-definition.yaml"
ROWS = range(24)


def dataset(
    files: dict[str, bytes],
    source: dict[str, str],
    kind: str,
    *,
    loss: str = "CrossEntropy",
    label: str | None = None,
) -> Case:
    """What is said of the files of a dataset: the error, or what it is warned of."""

    def case(directory: Path) -> object:
        for name, content in files.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_bytes(content)
        layers = [{"id": 1, "type": "Dense", "nodes": 2, "activation": "Linear"}]
        keys = {"format": kind, "source": source} | ({"label-column": label} if label else {})
        wanted = definition(dataset=keys, layers=layers, loss=loss, metrics=(loss,))
        (directory / "out").mkdir()
        found = split(wanted, directory, directory / "out")
        return "\n".join((*found.notes, *found.warnings))

    return case


def csv(head: str, row: str, end: str = "", **keys: Any) -> Case:
    """A CSV of a head, 24 rows (n counts them, a and b are features, y is a label), and an end."""
    lines = [row.format(n=n, a=f"{n % 5}.5", b=n % 7, y=n % 2) + "\n" for n in ROWS]
    return dataset({"t.csv": (head + "".join(lines) + end).encode()}, {"features": "t.csv"}, "CSV", **keys)


def test_tables(tmp_path: Path) -> None:
    """Each is refused in a line, or a note says how it is read."""
    check(
        "exported-tables",
        {
            "blanks before quotation marks": csv('a, "b", "y"\n', '{a}, "{b}", "{y}"'),
            "two levels of names (pandas)": csv(",a,a,y\n,x,y,z\n", "{n},{a},{b},{y}"),
            "a title in the first cell": csv("Report,,\na,b,y\n", "{a},{b},{y}"),
            "SQL": csv("", "INSERT INTO t VALUES ({a},{b},{y});"),
            "a table of Markdown": csv("| a | b | y |\n|---|---|---|\n", "| {a} | {b} | {y} |"),
            "a table of a web page": csv("<table>\n", "<tr><td>{a}</td></tr>"),
            "an unknown delimiter": csv("a:b:y\n", "{a}:{b}:{y}"),
            "Hive's delimiter": csv("", "{a}\x01{b}\x01{y}"),
            "whole lines in quotation marks": csv("", '"{a},{b},{y}"'),
            "an open quotation mark": csv("a,b,y\n", "{a},{b},{y}", '1,"2,0\n'),
            "an open quotation mark in the names": csv('a,"b,y\n', "{a},{b},{y}"),
            "Excel's sep of a tab": csv("sep=\t\n", "{a}\t{b}\t{y}"),
            "a comment above": csv("% of a sensor\n", "{a},{b},{y}"),
            "a comment below": csv("a,b,y\n", "{a},{b},{y}", "// of a sensor\n"),
            "a label in another column": csv("class,a,y\n", "{y},{a},{b}"),
            "a date in digits": csv("day,b,y\n", "202001{n:02d},{b},{y}".replace("{n:02d}", "1{y}")),
            "ZIP codes": csv("zip,b,y\n", "0213{b},{b},{y}"),
            "labels that begin with a zero": csv("a,b,y\n", "{a},{b},0{y}"),
            "seconds since 1970": csv("at,b,y\n", "16000000{n:02d},{b},{y}"),
            "rows that are numbered": csv("a,PassengerId,y\n", "{a},{n},{y}"),
            "customers": csv("a,customer_id,y\n", "{a},7{n:02d}3,{y}"),
            "many codes": csv("".join(f"c{n}," for n in range(10)) + "y\n", "01," * 10 + "{y}"),
            "labels in two spellings": csv("a,b,y\n", "{a},{b},Yes", "1,1,yes\n"),
            "texts for a regression": csv("a,b,y\n", "{a},{b},x", loss="MSE"),
            "one label": csv("a,b,y\n", "{a},{b},7"),
            "numbers in single quotation marks": csv("a,b,y\n", "'{a}',{b},{y}"),
            "an infinity": csv("a,b,y\n", "{a},{b},{y}", "Inf,1,1\n"),
            "a bound": csv("a,b,y\n", "{a},{b},{y}", "<0.05,1,1\n"),
            "thousands as K": csv("a,b,y\n", "{a},{b},{y}", "1.5K,1,1\n"),
            "a coordinate": csv("a,b,y\n", "{a},{b},{y}", "52.1N,1,1\n"),
            "a complex number": csv("a,b,y\n", "{a},{b},{y}", "(1+2j),1,1\n"),
            "a fraction": csv("a,b,y\n", "{a},{b},{y}", "1/3,1,1\n"),
            "units beside a number": csv("a,b,y\ncm,cm,1\n", "{a},{b},{y}"),
            "a label that is missing": csv("a,b,y\n", "{a},{b},{y}", "1,1,NULL\n"),
            "a label in another case": csv("a,b,Kind\n", "{a},{b},{y}", label="kind"),
            "a place in quotation marks": csv("a,b,Kind\n", "{a},{b},{y}", label="2"),
            "a missing value": csv("a,b,y\n", "{a},{b},{y}", "NULL,1,1\n"),
        },
        tmp_path,
    )


def idx(kind: int, content: bytes) -> bytes:
    return struct.pack(">HBBI", 0, kind, 1, 24) + content


def npz(**arrays: Any) -> Case:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return dataset({"t.npz": file.getvalue()}, {"features": "t.npz"}, "NPZ")


def npz_file(content: bytes) -> Case:
    return dataset({"t.npz": content}, {"features": "t.npz"}, "NPZ")


def test_arrays(tmp_path: Path) -> None:
    features, labels = np.arange(72.0).reshape(24, 3), np.arange(24) % 2
    alone = io.BytesIO()
    np.save(alone, features)
    check(
        "exported-arrays",
        {
            "Keras' names": npz(x_train=features, y_train=labels, x_test=features, y_test=labels),
            "another name": npz(X=features, y=labels),
            "no names": npz(arr_0=features, arr_1=labels),
            "one-hot labels": npz(features=features, labels=np.eye(2)[labels]),
            "a list of features": npz(features=np.arange(24.0), labels=labels),
            "a single value": npz(features=np.float32(3), labels=labels),
            "no columns": npz(features=np.zeros((24, 0)), labels=labels),
            "numbers of more than 32 bits": npz(features=features * 1e40, labels=labels),
            "one array alone": npz_file(alone.getvalue()),
            **{
                f"a file that begins with {start!r}": npz_file(start)
                for start in (
                    gzip.compress(b"x", mtime=0)[:4],
                    b"a,b\n1,2\n",
                    b"\x80\x04xx",
                    b"MATLAB 5.0 MAT-file",
                    b"\x89HDF",
                    b"PAR1",
                    b"\0\0\x08\3",
                    b"\x89PNG",
                    b"\xff\xd8\xff",
                    b"<html>",
                    b"version https://git-lfs",
                    b"PK\3\4",
                )
            },
            **{
                f"IDX of the type {kind}": dataset(
                    {"i": idx(kind, bytes(24)), "l": idx(8, bytes(24))},
                    {"features": "i", "labels": "l"},
                    "MNIST",
                )
                for kind in (0x09, 0x0B, 0x0C, 0x0D, 0x0E)
            },
            "a name in another case": dataset({"Data.csv": b"1,2,0\n"}, {"features": "data.csv"}, "CSV"),
            "a home directory": dataset({}, {"features": "~/data.csv"}, "CSV"),
            "all files": dataset({}, {"features": "*.csv"}, "CSV"),
            "what Windows puts beside files": dataset(
                {
                    "d/a.csv": b"1.5,2,0\n3,4.5,1\n" * 12,
                    "d/Thumbs.db": b"\xd0\xcf\x11\xe0",
                    "d/desktop.ini": b"[x]",
                },
                {"features": "d"},
                "CSV",
            ),
        },
        tmp_path,
    )


PEER = "12D3KooWGzxzKZYveHXtpG6AsrUJBcWFHBFsHS2evGfC5ptRktxv"
WHOLE = f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}"


def test_addresses(tmp_path: Path) -> None:
    def given(address: str) -> Case:
        return lambda _: addresses.split_full(address)

    check(
        "copied-addresses",
        {
            "blanks around it": given(f" {WHOLE}\n"),
            "quotation marks": given(f"'{WHOLE}'"),
            "a slash behind it": given(f"{WHOLE}/"),
            "no slash before it": given(WHOLE[1:]),
            "the whole line": given(f"mlnet-node start --peer {WHOLE}"),
            "capitals": given(WHOLE.replace("ip4", "IP4").replace("tcp", "TCP")),
            "the old name of p2p": given(WHOLE.replace("p2p", "ipfs")),
            "several": given(f"{WHOLE},{WHOLE}"),
            "another transport": given(f"/ip4/192.0.2.7/udp/4001/quic-v1/p2p/{PEER}"),
            "a web socket": given(f"/ip4/192.0.2.7/tcp/4001/ws/p2p/{PEER}"),
            "dots": given(WHOLE[:40] + "..."),
        },
        tmp_path,
    )


def changed(old: str, new: str) -> Case:
    """What is said of the example after a change, and what is corrected."""

    def case(_: Path) -> object:
        before = EXAMPLE.read_text(encoding="utf-8")
        assert old in before
        text = before.replace(old, new, 1)
        mended = diagnosis.mend(text)
        told = [
            f"{error} [{'certain' if error.certain else 'by hand'}]"
            for error in diagnosis.diagnose(text).errors
        ]
        after = "corrected to a definition" if not mended.left else f"{len(mended.left)} left"
        return "\n".join([*told, after])

    return case


def content(data: bytes) -> Case:
    def case(directory: Path) -> object:
        (directory / "t.yaml").write_bytes(data)
        return task_definition.load_file(directory / "t.yaml")

    return case


def test_definitions(tmp_path: Path) -> None:
    sha256 = "6fa96ab47092c85e39f962edd841b21e172a9dfdd71a36131f83effe676be9f0"
    check(
        "exported-definitions",
        {
            "text behind a quotation mark": changed("type: Adam #", 'type: "Adam" or so #'),
            "a text in a block": changed("      name: Kaiming #", "      name: |\n        Kaiming\n      #"),
            "a text folded": changed("format: NPZ", "format: >\n      NPZ"),
            "a second document": changed("version: 1", "version: 1\n---\nversion: 1"),
            "an end that begins another document": changed("    cpus: 1", "    cpus: 1\n---"),
            "a hash with its name": changed(sha256, f"sha256:{sha256}"),
            "a hash with its file": changed(sha256, f"{sha256}  digits.npz"),
            "a call of torch": changed("activation: ReLU", "activation: nn.ReLU()"),
            "a class of torch": changed("type: Adam #", "type: torch.optim.Adam #"),
            "a number of more than 64 bits": changed("nodes: 128", "nodes: 99999999999999999999"),
            "a number that is out of range": changed("learning_rate: 3e-3", "learning_rate: 3e999"),
            "a payment beyond all": changed("amount: 100", "amount: 1e30"),
            "nothing": content(b"# later\n"),
            "a program": content(b"\x7fELF\x02\x01\x01" + bytes(100)),
            "TOML": content(b"[ml]\nepochs = 12\n"),
            "XML": content(b"<?xml version='1.0'?>\n<task/>\n"),
            "Python": content(b"import torch\nlr = 0.1\n"),
        },
        tmp_path,
    )

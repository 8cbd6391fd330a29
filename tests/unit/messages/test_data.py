"""What is said of datasets, segments, links and models that cannot be read, by what is wrong with them."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import http.server
import io
import struct
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from support.datasets import definition
from support.message_cases import Case, check

from mlnet.data import LinkPolicy, fetching, segments, split
from mlnet.data.http import Interrupter, download
from mlnet.data.table import DatasetLimits
from mlnet.errors import DataError

SMALL = DatasetLimits(source_bytes=1 << 20, table_bytes=4096, rows=100, columns=64, line_bytes=200)


def idx_bytes(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def cut(
    files: dict[str, bytes],
    layers: list[dict[str, object]] | None = None,
    loss: str = "CrossEntropy",
    **keys: object,
) -> Case:
    """The cutting of a dataset whose files have these contents; its definition has these keys."""

    def case(directory: Path) -> object:
        for name, content in files.items():
            (directory / name).write_bytes(content)
        source = keys.pop("source", {"features": next(iter(files), "nothing")})
        wanted = definition(dataset={"source": source, **keys}, loss=loss, metrics=(loss,))
        return split(wanted, directory, directory, SMALL)

    return case


def csv(text: str, **keys: Any) -> Case:
    rows = "1,2,3,0\n" * 12
    keys = {"format": "CSV", "label-column": -1, **keys}
    return cut({"data.csv": text.replace("ROWS", rows).encode("latin-1")}, **keys)


def test_csv(tmp_path: Path) -> None:
    check(
        "csv",
        {
            "no rows": csv("a,b,c,d\n"),
            "text in a column": csv("a,b,c,d\nROWS1,2,x,0\n"),
            "a missing value": csv("a,b,c,d\nROWS1,,3,0\n"),
            "a row that is too long": csv("a,b,c,d\nROWS1,2,3,4,0\n"),
            "a table of few rows": csv("a;b;c;d\n1;2;3;0\n1;2;3;0\n"),
            "another delimiter": csv("a;b;c;d\n1;2;3;0\n1;2;3;0\n", delimiter=","),
            "another number of names than of values": csv("a,b\nROWS"),
            "an endless line": csv("1," * 300 + "\n"),
            "a file in Latin-1": csv("gr\xf6\xdfe,b,c,d\nROWS"),
            "a label column that there is not": csv("a,b,c,d\nROWS", **{"label-column": "kind"}),
            "a label column beyond the last": csv("a,b,c,d\nROWS", **{"label-column": 7}),
            "another hash": csv("a,b,c,d\nROWS", sha256="0" * 64),
        },
        tmp_path,
    )


def test_idx(tmp_path: Path) -> None:
    def images(content: bytes, labels: bytes = b"") -> Case:
        files = {"images": content, "labels": labels or idx_bytes(np.zeros(12, np.uint8))}
        return cut(files, format="MNIST", source={"features": "images", "labels": "labels"})

    whole = idx_bytes(np.zeros((12, 2, 2), np.uint8))
    check(
        "idx",
        {
            "labels where images belong": images(idx_bytes(np.zeros(12, np.uint8))),
            "images where labels belong": images(whole, whole),
            "another file": images(b"PK\3\4 something else"),
            "a cut file": images(whole[:-1]),
            "more bytes than announced": images(whole + b"x"),
            "a cut gzip": images(gzip.compress(whole)[:-9]),
            "too many rows": images(struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**16, 2**16)),
            "too many values": images(struct.pack(">HBB3I", 0, 8, 3, 99, 8, 8)),
            "fewer labels than images": images(whole, idx_bytes(np.zeros(11, np.uint8))),
        },
        tmp_path,
    )


def npz_bytes(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def member(content: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("features.npy", content)
    return file.getvalue()


def short(archive: bytes, missing: int) -> bytes:
    """An archive whose directory promises more bytes of its member than there are."""
    place = archive.index(b"PK\1\2") + 24
    (size,) = struct.unpack_from("<I", archive, place)
    return archive[:place] + struct.pack("<I", size + missing) + archive[place + 4 :]


def test_npz(tmp_path: Path) -> None:
    def saved(content: bytes) -> Case:
        return cut({"x.npz": content})

    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": (16, 32), "fortran_order": False, "descr": "<f4"})
    check(
        "npz",
        {
            "not an archive": saved(b"no zip at all"),
            "an archive of too many arrays": saved(npz_bytes(**{f"a{n}": np.zeros(1) for n in range(2000)})),
            "no array of that name": saved(npz_bytes(x=np.ones((12, 2)))),
            "another compression": saved(member(b"x", zipfile.ZIP_LZMA)),
            "something else than an array": saved(member(b"hello, this is no array")),
            "a header without an end": saved(member(b"\x93NUMPY\x02\x00\xff\xff\xff\x00")),
            "objects": saved(npz_bytes(features=np.array([[object()]], dtype=object))),
            "fewer bytes than the directory says": saved(short(member(header.getvalue() + bytes(2040)), 8)),
            "fewer bytes than the header says": saved(member(header.getvalue() + b"short")),
        },
        tmp_path,
    )


def test_tables(tmp_path: Path) -> None:
    zeros = np.zeros((12, 2), np.float32)

    def features(values: np.ndarray) -> Case:
        return cut({"x.npz": npz_bytes(features=values, labels=np.zeros(len(values), np.int64))})

    def labels(values: np.ndarray, loss: str = "CrossEntropy") -> Case:
        return cut({"x.npz": npz_bytes(features=zeros, labels=values)}, loss=loss)

    missing, late = zeros.copy(), np.zeros(12, np.int64)
    missing[3, 1], late[4] = np.nan, 10
    check(
        "tables",
        {
            "features of text": features(np.array([["a"]] * 12)),
            "features in one dimension": features(np.zeros(12)),
            "a value that is missing": features(missing),
            "too many rows": features(np.zeros((101, 2))),
            "too many values": features(np.zeros((100, 64))),
            "labels of complex numbers": labels(np.zeros(12, np.complex64)),
            "labels of more than one column": labels(np.zeros((12, 3))),
            "a label beyond the last class": labels(late),
            "targets of another width": labels(np.zeros((12, 2)), "MSE"),
        },
        tmp_path,
    )


def test_datasets(tmp_path: Path) -> None:
    few = npz_bytes(features=np.zeros((5, 2), np.float32), labels=np.zeros(5, np.int64))
    check(
        "datasets",
        {
            "no such file": cut({}),
            "a directory": cut({}, source={"features": "."}),
            "a link of another kind": cut({}, source={"features": "ftp://example.org/data.npz"}),
            "a bracket that is not closed": cut({}, source={"features": "http://[/data.npz"}),
            "too few rows": cut({"few.npz": few}),
        },
        tmp_path,
    )


def test_segments(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    def tensors(content: dict[str, np.ndarray] | bytes) -> Case:
        def case(directory: Path) -> object:
            path = directory / "s.safetensors"
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                save_file(content, path)
            return segments.segment_inputs(path)

        return case

    def read(content: dict[str, np.ndarray]) -> Case:
        def case(directory: Path) -> object:
            save_file(content, directory / "s.safetensors")
            return segments.read_segment(directory / "s.safetensors", inputs=2, outputs=2, classes=True)

        return case

    check(
        "segments",
        {
            "another file": tensors(b"hello"),
            "a damaged header": tensors(struct.pack("<Q", 8) + b"{}      "),
            "a header that is no JSON": tensors(struct.pack("<Q", 8) + b"hello   "),
            "rows and labels of other numbers": read(
                {"features": np.zeros((3, 2), np.float32), "labels": np.zeros(4, np.int64)}
            ),
            "a file without features": tensors({"x": np.zeros(2, np.float32)}),
            "features of another shape": tensors(
                {"features": np.zeros(2, np.float32), "labels": np.zeros(2, np.int64)}
            ),
        },
        tmp_path,
    )


def test_links(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"hello").hexdigest()

    def fetch(link: str, *, size: int = 5, wanted: str = digest, roots: bool = True) -> Case:
        async def fetched(directory: Path) -> None:
            policy = LinkPolicy((directory,) if roots else (), False)
            await fetching.fetch(
                link.replace("DIR", str(directory)),
                digest=wanted,
                size=size,
                destination=directory / "out",
                policy=policy,
                algorithm="sha256",
            )

        def case(directory: Path) -> object:
            (directory / "file").write_bytes(b"hello")
            return asyncio.run(fetched(directory))

        return case

    check(
        "links",
        {
            "no link": fetch("hello"),
            "a link that is too long": fetch("http://example.org/" + "x" * 5000),
            "a link of another kind": fetch("ftp://example.org/x"),
            "the hash of another file": fetch("mlnet:" + "0" * 64),
            "a hash, and nobody to ask": fetch(f"mlnet:{digest}"),
            "a file on another machine": fetch("file://host/file"),
            "a bracket that is not closed": fetch("file://[/x"),
            "a file below no directory that is shared": fetch("file://DIR/file", roots=False),
            "no such file": fetch("file://DIR/nothing"),
            "a directory": fetch("file://DIR"),
            "a file that is too long": fetch("file://DIR/file", size=3),
            "a file that is too short": fetch("file://DIR/file", size=9),
            "a file with another hash": fetch("file://DIR/file", wanted="0" * 64),
            "a user name in a link": fetch("http://me@example.org/x"),
            "a link to this machine": fetch("http://127.0.0.1:9/x"),
        },
        tmp_path,
    )


ANSWERS = {
    "/gone": (404, {}, b""),
    "/round": (302, {"Location": "/round"}, b""),
    "/large": (200, {"Content-Length": "9"}, b"123456789"),
    "/larger": (200, {}, b"123456789"),
}


class Answering(http.server.BaseHTTPRequestHandler):
    """A web server of a few answers."""

    def do_GET(self) -> None:
        status, headers, body = ANSWERS[self.path]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def test_downloads(tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        port = server.server_address[1]

        def fetched(path: str) -> Case:
            def case(_: Path) -> object:
                try:
                    return download(
                        f"http://127.0.0.1:{port}{path}",
                        lambda _: None,
                        max_bytes=5,
                        seconds=20,
                        allow_private=True,
                        interrupter=Interrupter(),
                    )
                except DataError as error:
                    return str(error).replace(str(port), "PORT")

            return case

        check(
            "downloads",
            {
                "no such page": fetched("/gone"),
                "a page that leads to itself": fetched("/round"),
                "a file that says that it is too long": fetched("/large"),
                "a file that is too long": fetched("/larger"),
            },
            tmp_path,
        )
        server.shutdown()
        serving.join()

from __future__ import annotations

import fcntl
import hashlib
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mlnet.kernels import segmenthash
from mlnet.kernels._lease import Lease
from mlnet.kernels.segmenthash import LEAF_SIZE, Hasher

pytestmark = pytest.mark.usefixtures("kernels")

DATA = random.Random(6962).randbytes(7 * LEAF_SIZE + 12345)

# NIST, "SHA-256 additional examples": messages that are all zeros.
NIST_ZEROS = [
    (55, "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7"),
    (56, "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb"),
    (57, "65a16cb7861335d5ace3c60718b5052e44660726da4cd13bb745381b235a1785"),
    (64, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b"),
    (1_000, "541b3e9daa09b20bf85fa273e5cbd3e80185aa4ec298e765db87742b70138a53"),
    (1_000_000, "d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025"),
]

# The reference tests of Certificate Transparency (RFC 6962): leaves, and the root over the first n of them.
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_PATHS = [  # leaf, tree size, audit path
    (0, 8, [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]),
    (5, 8, [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (1, 5, [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]),
]  # fmt: skip


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\0" + leaf).digest()


@pytest.mark.parametrize("size", range(9))
def test_the_roots_of_rfc_6962(size: int) -> None:
    assert segmenthash.root([leaf_hash(leaf) for leaf in CT_LEAVES[:size]]).hex() == CT_ROOTS[size]


@pytest.mark.parametrize(("index", "size", "path"), CT_PATHS)
def test_the_audit_paths_of_rfc_6962(index: int, size: int, path: list[str]) -> None:
    hashes = [leaf_hash(leaf) for leaf in CT_LEAVES[:size]]
    assert [node.hex() for node in segmenthash.proof(hashes, index)] == path


@pytest.mark.parametrize(("zeros", "sha256"), NIST_ZEROS)
def test_the_sha256_of_zeros(zeros: int, sha256: str) -> None:
    # The prefix of the leaf is the first of them.
    assert segmenthash.digest(bytes(zeros - 1)).hex() == sha256


SIZES = (*range(1, 200), LEAF_SIZE - 1, LEAF_SIZE)


def test_padding_at_every_length_around_a_block() -> None:
    for size in SIZES:
        assert segmenthash.digest(DATA[:size]) == leaf_hash(DATA[:size])


@pytest.mark.usefixtures("sha256_engine")
def test_the_engines_of_the_compiled_kernel_agree_with_hashlib() -> None:
    from mlnet.kernels import _segmenthash

    for size in (*SIZES, *(n * LEAF_SIZE for n in range(2, 8)), 2 * LEAF_SIZE + 1, len(DATA)):
        hashes = _segmenthash.leaf_hashes(memoryview(DATA)[:size])
        assert hashes == b"".join(
            leaf_hash(DATA[start : min(start + LEAF_SIZE, size)]) for start in range(0, size, LEAF_SIZE)
        )
        assert _segmenthash.root(memoryview(hashes)) == expected_root(DATA[:size])


def test_no_bytes() -> None:
    empty = hashlib.sha256(b"").digest()
    assert segmenthash.digest(b"") == empty
    assert segmenthash.digest(np.empty((0, 3))) == empty
    assert Hasher().digest() == empty
    assert segmenthash.leaf_hashes(b"") == []


def expected_root(data: bytes) -> bytes:
    """Section 2.1 of the RFC, word for word."""

    def tree(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return leaf_hash(leaves[0])
        k = 1
        while 2 * k < len(leaves):
            k *= 2
        return hashlib.sha256(b"\1" + tree(leaves[:k]) + tree(leaves[k:])).digest()

    return tree([data[start : start + LEAF_SIZE] for start in range(0, len(data), LEAF_SIZE)])


@pytest.fixture(
    scope="module", params=[1, LEAF_SIZE, LEAF_SIZE + 1, 2 * LEAF_SIZE, 3 * LEAF_SIZE - 1, len(DATA)], ids=str
)
def data(request: pytest.FixtureRequest) -> bytes:
    return DATA[: request.param]


def test_digest_of_a_buffer_a_file_and_a_stream(data: bytes, tmp_path: Path) -> None:
    root = expected_root(data)
    path = tmp_path / "segment"
    path.write_bytes(data)

    assert segmenthash.digest(data) == root
    assert segmenthash.digest_file(path) == root
    assert segmenthash.digest_file(str(path)) == root
    assert Hasher().update(data).digest() == root
    assert Hasher().update(data).hexdigest() == root.hex()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_the_number_of_threads_does_not_matter(
    threads: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(segmenthash, "_THREADS", threads)
    monkeypatch.setattr(segmenthash, "_MOST_AT_ONCE", 1)
    path = tmp_path / "segment"
    path.write_bytes(DATA)

    assert segmenthash.digest(DATA) == expected_root(DATA)
    assert segmenthash.digest_file(path) == expected_root(DATA)


def test_a_file_that_cannot_be_leased_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.write_bytes(DATA)
    with path.open("r+b"):
        assert segmenthash.digest_file(path) == expected_root(DATA)
    monkeypatch.delattr("fcntl.F_SETLEASE", raising=False)
    monkeypatch.delattr("os.RWF_NOWAIT", raising=False)
    assert segmenthash.digest_file(path) == expected_root(DATA)


@pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="there are no leases here")
def test_nobody_writes_to_a_file_under_lease(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.write_bytes(DATA[:10])
    with path.open("rb") as file:
        lease = Lease(file.fileno())
        assert (lease.taken, lease.contested) == (True, False)
        with pytest.raises(BlockingIOError):
            os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        assert (lease.taken, lease.contested) == (True, True)
        lease.release()
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="there are no leases here")
def test_a_lease_that_someone_waits_for_is_released(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.write_bytes(DATA)
    leases = []

    class ContestedLease(Lease):
        def __init__(self, file: int) -> None:
            super().__init__(file)
            leases.append(self)
            with pytest.raises(BlockingIOError):
                os.open(path, os.O_WRONLY | os.O_NONBLOCK)

        def release(self) -> None:
            super().release()
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))

    monkeypatch.setattr(segmenthash, "Lease", ContestedLease)
    assert segmenthash.digest_file(path) == expected_root(DATA)
    assert [lease.taken for lease in leases] == [False]


def test_a_file_that_became_shorter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.write_bytes(DATA)

    class LateLease(Lease):
        def __init__(self, file: int) -> None:
            os.truncate(path, LEAF_SIZE)
            super().__init__(file)

    monkeypatch.setattr(segmenthash, "Lease", LateLease)
    with pytest.raises(OSError, match="became shorter"):
        segmenthash.digest_file(path)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(path.write_bytes, DATA)
        assert segmenthash.digest_file(path) == expected_root(DATA)
        assert written.result() == len(DATA)


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        for size in sizes:
            yield data[start : start + size]
            start += size


@pytest.mark.parametrize(
    "sizes", [[65536], [LEAF_SIZE], [LEAF_SIZE - 1, 0, 2], [3 * LEAF_SIZE + 7], [999_999]]
)
def test_a_stream_in_pieces_of_any_size(sizes: list[int]) -> None:
    hasher = Hasher()
    for piece in pieces(DATA, sizes):
        hasher.update(piece)

    assert hasher.digest() == expected_root(DATA)
    assert hasher.leaf_hashes() == segmenthash.leaf_hashes(DATA)


def test_a_digest_in_between_changes_nothing() -> None:
    hasher = Hasher().update(DATA[:100])
    assert hasher.digest() == leaf_hash(DATA[:100])
    assert hasher.update(DATA[100:]).digest() == expected_root(DATA)


def test_the_caller_may_reuse_its_buffer() -> None:
    hasher = Hasher()
    buffer = bytearray(b"one")
    hasher.update(buffer)
    buffer[:] = b"two!"
    assert hasher.digest() == leaf_hash(b"one")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        segmenthash.digest_file(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        segmenthash.digest_file(tmp_path)


def test_buffers_of_any_element_type() -> None:
    floats = np.frombuffer(DATA[: 3 * LEAF_SIZE], np.float32).reshape(3, -1)
    root = expected_root(DATA[: 3 * LEAF_SIZE])

    assert segmenthash.digest(floats) == root
    assert segmenthash.digest(bytearray(floats.tobytes())) == root
    assert segmenthash.digest(memoryview(DATA)[1:77]) == leaf_hash(DATA[1:77])
    assert Hasher().update(floats).digest() == root


@pytest.mark.parametrize(
    "function", [segmenthash.digest, segmenthash.leaf_hashes, lambda data: Hasher().update(data)]
)
def test_anything_else_is_refused(function) -> None:  # type: ignore[no-untyped-def]
    for strided in (np.zeros((4, 4))[:, ::2], np.zeros((4, 4), order="F"), np.zeros(4)[::-1]):
        with pytest.raises(ValueError, match="data: must be C-contiguous"):
            function(strided)
    for other in ("text", 5, None, [1, 2]):
        with pytest.raises(TypeError):
            function(other)


LEAVES = [DATA[start : start + LEAF_SIZE] for start in range(0, len(DATA), LEAF_SIZE)]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]


@pytest.mark.parametrize("count", range(1, len(LEAVES) + 1))
def test_each_leaf_verifies_at_its_place_only(count: int) -> None:
    hashes, last = [*HASHES[: count - 1], leaf_hash(b"end")], count - 1
    root = segmenthash.root(hashes)
    for index in range(count):
        leaf = b"end" if index == last else LEAVES[index]
        path = segmenthash.proof(hashes, index)
        assert segmenthash.verify_leaf(root, index, leaf, path, count)
        assert not any(
            segmenthash.verify_leaf(root, other, leaf, path, count)
            for other in range(count)
            if other != index
        )


def test_proof_of_the_segment_itself() -> None:
    root = segmenthash.digest(DATA)
    for index in (0, 3, 7):
        path = segmenthash.proof(DATA, index)
        assert path == segmenthash.proof(HASHES, index)
        assert segmenthash.verify_leaf(root, index, LEAVES[index], path, len(LEAVES))


def test_whatever_is_malformed_does_not_verify() -> None:
    root, count, last = segmenthash.digest(DATA), len(LEAVES), len(LEAVES) - 1
    path, leaf = segmenthash.proof(HASHES, 2), LEAVES[2]
    verify = segmenthash.verify_leaf
    changed = bytearray(leaf)
    changed[500_000] ^= 1

    assert verify(root, 2, leaf, path, count)
    assert not verify(root, 2, changed, path, count)
    assert not verify(root, 2, leaf, path[:-1], count)
    assert not verify(root, 2, leaf, [*path, path[0]], count)
    assert not verify(root, 2, leaf, path[::-1], count)
    assert not verify(root, 2, leaf, [path[0][:-1], *path[1:]], count)
    assert not verify(root, 2, leaf, [path[0] + b"x", *path[1:]], count)
    assert not verify(root, 2, leaf, [], count)
    assert not verify(root[:-1], 2, leaf, path, count)
    assert not verify(b"", 2, leaf, path, count)
    assert not verify(root, -1, leaf, path, count)
    assert not verify(root, count, leaf, path, count)
    assert not verify(root, 2, leaf, path, 0)
    assert not verify(root, 2, leaf, path, -count)
    assert not verify(root, 2, leaf, path, 2**100_000)
    assert not verify(root, 2, leaf[:-1], path, count)
    assert not verify(root, 2, leaf + b"x", path, count)
    assert not verify(root, 2, b"", path, count)
    assert verify(root, last, LEAVES[last], segmenthash.proof(HASHES, last), count)


def test_an_inner_node_is_no_leaf() -> None:
    root = segmenthash.root(HASHES[:2])
    assert not segmenthash.verify_leaf(root, 0, HASHES[0] + HASHES[1], [], 1)


def test_there_is_no_proof_without_its_leaf() -> None:
    for index in (-1, 8):
        with pytest.raises(IndexError, match=f"there is no leaf {index} of 8"):
            segmenthash.proof(HASHES, index)
    with pytest.raises(IndexError):
        segmenthash.proof(b"", 0)


def test_hashes_have_32_bytes() -> None:
    with pytest.raises(ValueError, match="each must have 32 bytes"):
        segmenthash.root([HASHES[0], HASHES[1][:-1]])
    with pytest.raises(ValueError, match="each must have 32 bytes"):
        segmenthash.proof([HASHES[0], b""], 0)

"""The identity of a dataset segment: the root of a SHA-256 Merkle tree over its leaves of 1 MiB.

The tree is that of RFC 6962, section 2.1: a leaf's hash is SHA-256(0x00 | leaf), an inner node's
SHA-256(0x01 | left | right), the left subtree of n leaves holds the largest power of two below n, and the
root over no bytes is SHA-256 of the empty string. A download can be verified leaf by leaf, and hashing uses
every core.
"""

from __future__ import annotations

import hashlib
import hmac
import io
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from mlnet.kernels import IMPLEMENTATION
from mlnet.kernels._threads import THREADS
from mlnet.kernels._views import octets

if TYPE_CHECKING:
    from _typeshed import StrPath

    from mlnet.kernels._views import AnyBuffer

if IMPLEMENTATION == "compiled":
    from mlnet.kernels import _segmenthash as _impl
else:
    from mlnet.kernels import reference as _impl  # type: ignore[no-redef]

__all__ = ["LEAF_SIZE", "Hasher", "digest", "digest_file", "leaf_hashes", "proof", "root", "verify_leaf"]

LEAF_SIZE = 1 << 20
"""Bytes of a leaf; only the last one of a segment may be shorter."""

_HASH_SIZE = 32
_MOST_LEAVES = 1 << 43  # 2^63 bytes
_READ_SIZE = 4 * LEAF_SIZE
_THREADS = THREADS


def digest(data: AnyBuffer) -> bytes:
    """The root over a C-contiguous buffer of any element type; 32 bytes.

    Raises:
        TypeError: it is no buffer.
        ValueError: it is not C-contiguous.
    """
    return _impl.root(memoryview(_joined_leaf_hashes(octets("data", data))))


def digest_file(path: StrPath) -> bytes:
    """The root over a file's bytes, read ahead of the hashing in a fixed amount of memory; 32 bytes.

    Raises:
        OSError: the file cannot be read.
    """
    hashes = bytearray()
    pending: deque[tuple[bytearray, Future[bytes]]] = deque()
    with io.FileIO(path) as file, ThreadPoolExecutor(_THREADS) as pool:
        spare = [bytearray(_READ_SIZE) for _ in range(_THREADS + 2)]
        while True:
            if not spare:
                block, future = pending.popleft()
                hashes += future.result()
                spare.append(block)
            block = spare.pop()
            size = _fill(file, block)
            pending.append((block, pool.submit(_impl.leaf_hashes, memoryview(block)[:size])))
            if size < _READ_SIZE:
                break
        for _, future in pending:
            hashes += future.result()
    return _impl.root(memoryview(hashes))


class Hasher:
    """Hashes a segment that arrives in pieces; remembers 32 bytes a leaf.

    Like the objects of hashlib, it may be asked for its digest at any time and fed further.
    """

    def __init__(self) -> None:
        self._hashes = bytearray()
        self._partial = bytearray()

    def update(self, data: AnyBuffer) -> Hasher:
        """Appends the bytes of a C-contiguous buffer; returns this object.

        Raises:
            TypeError: it is no buffer.
            ValueError: it is not C-contiguous.
        """
        view = octets("data", data)
        if self._partial:
            missing = LEAF_SIZE - len(self._partial)
            self._partial += view[:missing]
            view = view[missing:]
            if len(self._partial) < LEAF_SIZE:
                return self
            self._hashes += _impl.leaf_hashes(memoryview(self._partial))
            self._partial = bytearray()
        whole = len(view) - len(view) % LEAF_SIZE
        self._hashes += _joined_leaf_hashes(view[:whole])
        self._partial += view[whole:]
        return self

    def leaf_hashes(self) -> list[bytes]:
        """The hashes of all leaves so far, an incomplete last one included."""
        return _split(self._joined())

    def digest(self) -> bytes:
        """The root over all bytes so far; 32 bytes."""
        return _impl.root(memoryview(self._joined()))

    def hexdigest(self) -> str:
        """The root in lower-case hex."""
        return self.digest().hex()

    def _joined(self) -> bytes:
        return bytes(self._hashes) + _impl.leaf_hashes(memoryview(bytes(self._partial)))


def leaf_hashes(data: AnyBuffer) -> list[bytes]:
    """The hash of each leaf of a C-contiguous buffer; none for no bytes.

    Raises:
        TypeError: it is no buffer.
        ValueError: it is not C-contiguous.
    """
    return _split(_joined_leaf_hashes(octets("data", data)))


def root(hashes: Sequence[bytes]) -> bytes:
    """The root over the leaves that have these hashes of 32 bytes.

    Raises:
        ValueError: a hash is not of 32 bytes.
    """
    if any(len(item) != _HASH_SIZE for item in hashes):
        raise ValueError(f"hashes: each must have {_HASH_SIZE} bytes")
    return _impl.root(memoryview(b"".join(hashes)))


def proof(data: AnyBuffer | Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of a leaf (RFC 6962, section 2.1.1): what :func:`verify_leaf` needs beside the leaf.

    Args:
        data: the whole segment, or the hashes of its leaves.
        index: the place of the leaf, from 0.

    Raises:
        IndexError: there is no such leaf.
        ValueError: a hash is not of 32 bytes, or the segment is not C-contiguous.
    """
    hashes = list(data) if isinstance(data, (list, tuple)) else leaf_hashes(data)  # type: ignore[arg-type]
    if not 0 <= index < len(hashes):
        raise IndexError(f"index: there is no leaf {index} of {len(hashes)}")
    path: list[bytes] = []
    while len(hashes) > 1:
        split = _left_leaves(len(hashes))
        if index < split:
            path.append(root(hashes[split:]))
            hashes = hashes[:split]
        else:
            path.append(root(hashes[:split]))
            hashes, index = hashes[split:], index - split
    path.reverse()
    return path


def verify_leaf(root: bytes, index: int, leaf: AnyBuffer, proof: Sequence[bytes], leaf_count: int) -> bool:
    """Whether a leaf stands at a place of the segment with a given root.

    All arguments but the root may come from a stranger: whatever is malformed is simply not part of the
    segment.

    Args:
        root: the segment's digest.
        index: the place of the leaf, from 0.
        leaf: its bytes; exactly :data:`LEAF_SIZE` of them unless it is the last.
        proof: its audit path, as :func:`proof` returns it.
        leaf_count: the number of leaves of the segment.
    """
    if not 0 <= index < leaf_count <= _MOST_LEAVES:
        return False
    view = octets("leaf", leaf)
    shortest = LEAF_SIZE if index < leaf_count - 1 else 1
    if not shortest <= len(view) <= LEAF_SIZE:
        return False
    turns: list[bool] = []
    while leaf_count > 1:
        split = _left_leaves(leaf_count)
        right = index >= split
        turns.append(right)
        index, leaf_count = (index - split, leaf_count - split) if right else (index, split)
    if len(turns) != len(proof) or any(len(item) != _HASH_SIZE for item in proof):
        return False
    node = _impl.leaf_hashes(view)
    for sibling, right in zip(proof, reversed(turns), strict=True):
        node = hashlib.sha256(b"\1" + (sibling + node if right else node + sibling)).digest()
    return hmac.compare_digest(node, root)


def _left_leaves(count: int) -> int:
    """The largest power of two below a count of at least 2."""
    return 1 << (count - 1).bit_length() - 1


def _split(joined: bytes) -> list[bytes]:
    return [joined[start : start + _HASH_SIZE] for start in range(0, len(joined), _HASH_SIZE)]


def _joined_leaf_hashes(view: memoryview) -> bytes:
    """Leaf hashes of a buffer of bytes, by as many threads as pay."""
    leaves = -(-len(view) // LEAF_SIZE)
    threads = min(_THREADS, leaves // 2)
    if threads < 2:
        return _impl.leaf_hashes(view)
    # Even numbers of leaves, which the compiled kernel hashes in pairs.
    step = -(-leaves // (2 * threads)) * 2 * LEAF_SIZE
    with ThreadPoolExecutor(threads) as pool:
        return b"".join(
            pool.map(_impl.leaf_hashes, [view[start : start + step] for start in range(0, len(view), step)])
        )


def _fill(file: io.FileIO, block: bytearray) -> int:
    """Reads until the block is full or the file ends; returns the bytes read."""
    view, size = memoryview(block), 0
    while size < len(block) and (got := file.readinto(view[size:])):
        size += got
    return size

"""The identity of a dataset segment: the root of a SHA-256 Merkle tree over its leaves of 1 MiB.

The tree is that of RFC 6962, section 2.1: a leaf's hash is SHA-256(0x00 | leaf), an inner node's
SHA-256(0x01 | left | right), the left subtree of n leaves holds the largest power of two below n, and the
root over no bytes is SHA-256 of the empty string. A download can be verified leaf by leaf, and hashing uses
every core.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import io
import os
import stat
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from mlnet.kernels import IMPLEMENTATION
from mlnet.kernels._lease import Lease
from mlnet.kernels._threads import THREADS
from mlnet.kernels._views import octets
from mlnet.kernels.reference import LEAF_SIZE

if TYPE_CHECKING:
    from _typeshed import StrPath

    from mlnet.kernels._views import AnyBuffer

if IMPLEMENTATION == "compiled":
    from mlnet.kernels import _segmenthash as _impl
else:
    from mlnet.kernels import reference as _impl  # type: ignore[no-redef]

__all__ = ["LEAF_SIZE", "Hasher", "digest", "digest_file", "leaf_hashes", "proof", "root", "verify_leaf"]

_HASH_SIZE = 32
_MOST_LEAVES = 1 << 43  # 2^63 bytes
_MOST_AT_ONCE = 12  # leaves; several pieces a thread even out what else the cores do
_THREADS = THREADS


def digest(data: AnyBuffer) -> bytes:
    """The root over a C-contiguous buffer of any element type; 32 bytes.

    Raises:
        TypeError: it is not a buffer.
        ValueError: it is not C-contiguous.
    """
    return _impl.root(memoryview(_joined_leaf_hashes(octets("data", data))))


def digest_file(path: StrPath) -> bytes:
    """The root over a file's bytes, read ahead of the hashing in a fixed amount of memory; 32 bytes.

    On Linux, a file that belongs to the caller and is not open for writing is mapped instead of copied, under
    a lease. A process that opens it for writing meanwhile waits for a moment.

    Raises:
        OSError: the file cannot be read, or became shorter meanwhile.
    """
    with io.FileIO(path) as file:
        status = os.fstat(file.fileno())
        # Pipes and /proc files have no size to cut into pieces.
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return _digest_stream(file)
        try:
            return _impl.root(memoryview(_file_leaf_hashes(file.fileno(), status.st_size)))
        except EOFError:
            raise OSError(errno.EIO, "The file became shorter while it was read", os.fspath(path)) from None


class Hasher:
    """Hashes a segment that arrives in pieces; keeps 32 bytes for each leaf.

    Example:
        >>> Hasher().update(b"segment").update(b"s").digest() == digest(b"segments")
        True

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
    # A bytes object is a sequence as well, of integers; it is a segment here.
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
    # Plain comparison would do: nothing here is secret.
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
    step = _piece_size(leaves, threads)
    with ThreadPoolExecutor(threads) as pool:
        return b"".join(
            pool.map(_impl.leaf_hashes, [view[start : start + step] for start in range(0, len(view), step)])
        )


def _file_leaf_hashes(file: int, size: int) -> bytes:
    """Leaf hashes of a regular file of a known size, a few pieces ahead of the one that is waited for."""
    leaves = -(-size // LEAF_SIZE)
    threads = max(1, min(_THREADS, leaves // 2))
    step = _piece_size(leaves, threads)
    hashes = bytearray()
    pending: deque[Future[bytes]] = deque()
    lease = Lease(file)
    try:
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, size, step):
                # At most one piece more than threads: memory stays fixed, and no thread waits.
                if len(pending) > threads:
                    hashes += pending.popleft().result()
                # Somebody wants to write: finish what is mapped, give the lease back, and go on with copies.
                if lease.taken and lease.contested:
                    while pending:
                        hashes += pending.popleft().result()
                    lease.release()
                _read_ahead(file, start + step * threads, step)
                piece = min(step, size - start)
                pending.append(pool.submit(_impl.file_leaf_hashes, file, start, piece, lease.taken))
            while pending:
                hashes += pending.popleft().result()
    finally:
        lease.release()
    return bytes(hashes)


def _read_ahead(file: int, start: int, size: int) -> None:
    """Lets the system fetch a part of a file, unless its end is in memory."""
    try:
        os.preadv(file, [bytearray(1)], start + size - 1, os.RWF_NOWAIT)
    except (AttributeError, OSError):
        with contextlib.suppress(AttributeError, OSError):  # it is only advice
            os.posix_fadvise(file, start, size, os.POSIX_FADV_WILLNEED)


def _digest_stream(file: io.FileIO) -> bytes:
    hasher = Hasher()
    while piece := file.read(_MOST_AT_ONCE * LEAF_SIZE):
        hasher.update(piece)
    return hasher.digest()


def _piece_size(leaves: int, threads: int) -> int:
    """Bytes that a thread takes at once: threes of leaves, which the compiled kernel hashes together."""
    return min(_MOST_AT_ONCE, -(-leaves // (3 * threads)) * 3) * LEAF_SIZE

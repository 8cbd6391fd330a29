"""How the compiled kernels and the envelope codec compare with the libraries that one would otherwise take.

Prints a table in Markdown, or one JSON document. All ways of doing a thing are timed in the same run.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml
from benchmarks.measure import Result, Work, compare, machine, table

from mlnet.identity.envelope import Envelope
from mlnet.identity.keys import Identity
from mlnet.kernels import IMPLEMENTATION, borda, pingmatrix, segmenthash
from mlnet.kernels._threads import THREADS
from mlnet.protocol.signer import IdentitySigner
from mlnet.protocol.wire import codec
from mlnet.protocol.wire.messages import InitCluster, Redis, Resources

try:
    import blake3
except ImportError:
    blake3 = None  # type: ignore[assignment]

SAMPLES = 15
SEED = 1


def ping_matrix(n: int) -> Iterator[Result]:
    samples = np.random.default_rng(SEED).integers(100, 300_000, (n, n, SAMPLES))
    some = np.where(np.random.default_rng(SEED).random(samples.shape) < 0.1, -1, samples)
    peers: dict[str, Work] = {
        "numpy.median": lambda: np.median(samples, axis=2),
        "numpy, the same result": lambda: numpy_aggregate(samples),
    }
    shape = f"({n}, {n}, {SAMPLES})"
    one = compare(
        f"ping medians {shape}",
        lambda: pingmatrix.aggregate(samples, threads=1),
        peers,
        goals={"numpy.median": 8},
    )
    yield one
    yield compare(
        f"ping medians {shape}, a tenth missing",
        lambda: pingmatrix.aggregate(some, threads=1),
        {"numpy, the same result": lambda: numpy_aggregate(some)},
    )
    if THREADS > 1:
        yield compare(
            f"ping medians {shape}",
            lambda: pingmatrix.aggregate(samples),
            {**peers, "mlnet, one thread": lambda: pingmatrix.aggregate(samples, threads=1)},
            threads=THREADS,
        )


def numpy_aggregate(samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What pingmatrix.aggregate returns."""
    counts = (samples >= 0).sum(axis=2)
    ordered = np.sort(np.where(samples < 0, np.iinfo(np.int64).max, samples), axis=2)
    medians = np.take_along_axis(ordered, np.maximum(counts[..., None] - 1, 0) // 2, axis=2)[..., 0]
    medians[counts == 0] = -1
    distances = np.where(np.minimum(medians, medians.T) < 0, -1, np.maximum(medians, medians.T))
    np.fill_diagonal(distances, 0)
    return distances


def borda_count(n: int) -> Iterator[Result]:
    rng = np.random.default_rng(SEED)
    matrix = rng.integers(100, 300_000, (n, n))
    matrix = np.maximum(matrix, matrix.T)
    weights = 2 * np.arange(n - 1, -1, -1)

    def argsort_and_add() -> object:
        points = np.zeros(n, np.int64)
        np.add.at(points, matrix.argsort(axis=1), weights)
        return points

    yield compare(
        f"Borda count of a matrix of distances ({n}, {n})",
        lambda: borda.rank_by_distance(matrix),
        {
            "numpy.argsort twice, without ties": lambda: matrix.argsort(axis=1).argsort(axis=1).sum(axis=0),
            "numpy.argsort and add.at, without ties": argsort_and_add,
        },
        goals={"numpy.argsort twice, without ties": 8},
    )
    ballots = rng.random((n, n)).argsort(axis=1).astype(np.int32)

    def add_at() -> object:
        points = np.zeros(n, np.int64)
        np.add.at(points, ballots, weights)
        return points

    yield compare(
        f"Borda count of ballots ({n}, {n})",
        lambda: borda.score(ballots),
        {
            "numpy.bincount with weights, unchecked": lambda: np.bincount(
                ballots.ravel(), weights=np.tile(weights.astype(np.float64), n)
            ),
            "numpy.add.at, unchecked": add_at,
        },
        goals={"numpy.bincount with weights, unchecked": 8},
    )


def segment_hash(size: int, folder: Path) -> Iterator[Result]:
    piece = np.random.default_rng(SEED).bytes(1 << 20)
    data = piece * (size // len(piece))
    amount = f"{size >> 20} MiB"
    path = folder / "segment"
    path.write_bytes(data)
    peers: dict[str, Work] = {"hashlib.sha256, one thread": lambda: hashlib.sha256(data).digest()}
    goals = {"hashlib.sha256, one thread": 3.0}
    if blake3 is not None:
        name = f"blake3, {THREADS} threads"
        peers[name] = lambda: blake3.blake3(data, max_threads=THREADS).digest()
        goals[name] = 1.0
    yield compare(f"hash of {amount}", lambda: segmenthash.digest(data), peers, goals=goals, threads=THREADS)
    yield compare(
        f"hash of a file of {amount}, cached",
        lambda: segmenthash.digest_file(path),
        {"mlnet, in memory": lambda: segmenthash.digest(data)},
        goals={"mlnet, in memory": 0.9},
        threads=THREADS,
    )


def envelopes() -> Iterator[Result]:
    signer = IdentitySigner(Identity.from_seed(bytes(32)))
    body = InitCluster(
        Redis(True, "192.0.2.7", 6379), 1, ("/ip4/192.0.2.7/tcp/4001",), Resources(memory=16384, cpus=8)
    )
    values: dict[str, Any] = {"task": "0f" * 32, "attempt": 1, "sent": 1_700_000_000_000}
    message = signer.sign(body, **values)
    text = message.envelope.yaml
    plain = msgspec.json.decode(text)
    size = f"an envelope of {len(text)} bytes"
    yield compare(
        f"encode {size}",
        lambda: codec.encode("INIT_CLUSTER", sender=signer.peer_id, body=body, **values),
        {"yaml.CSafeDumper": lambda: yaml.dump(plain, Dumper=yaml.CSafeDumper)},
        goals={"yaml.CSafeDumper": 20},
    )
    yield compare(
        f"decode {size}",
        lambda: codec.decode(text),
        {"yaml.CSafeLoader": lambda: yaml.load(text, Loader=yaml.CSafeLoader)},
        goals={"yaml.CSafeLoader": 20},
    )
    envelope = Envelope(text, message.envelope.signature)
    yield compare(f"encode and sign {size}", lambda: signer.sign(body, **values), {})
    yield compare(f"verify and decode {size}", lambda: signer.verify(envelope), {})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--peers", type=int, default=1000, metavar="N", help="size of the matrices (1000)")
    parser.add_argument("--size", type=int, default=1024, metavar="MiB", help="size of the segment (1024)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        results = [
            *ping_matrix(options.peers),
            *borda_count(options.peers),
            *segment_hash(options.size << 20, Path(folder)),
            *envelopes(),
        ]
    where = machine() | {"kernels": IMPLEMENTATION, "numpy": np.__version__, "threads": THREADS}
    if options.json:
        document = msgspec.json.encode({"machine": where, "results": results})
        sys.stdout.write(msgspec.json.format(document).decode() + "\n")
    else:
        head = ", ".join(f"{name} {value}" for name, value in where.items())
        sys.stdout.write(f"{head}; load {os.getloadavg()[0]:.1f}\n\n{table(results)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

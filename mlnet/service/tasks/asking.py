"""What a caller asks for, checked: where a dataset may be read and a model written, and who may take part."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from mlnet.client.request import TaskRequest, written
from mlnet.errors import DataError, Overloaded, ServiceError
from mlnet.identity import keys
from mlnet.service.tasks.refused import invalid
from mlnet.task import definition as task_definition
from mlnet.task.definition import TaskDefinition
from mlnet.task.schema import SourceSpec
from mlnet.util import links
from mlnet.v1 import tasks_pb2 as pb

MAX_ALLOWED = 1024
MAX_TOKEN_BYTES = 128
MAX_NAME_BYTES = 255
"""Of a name for people; file names have no more."""
MAX_LISTED = 10_000
MAX_WAITING = 512
"""Definitions that wait to be parsed. One of the largest takes a tenth of a second."""
SHA256 = re.compile(r"[0-9a-f]{64}")
FindBlob = Callable[[str], Path | None]
"""The file with a SHA-256 (hexadecimal) that was put before; None when there is none."""


def no_blobs(_: str) -> Path | None:
    """Nothing was put."""
    return None


@dataclass(frozen=True)
class Rules:
    """What callers may name on this machine.

    Attributes:
        dataset_roots: directories below which datasets are read.
        output_roots: directories below which models are written.
        private_links: whether links may lead to addresses that are not of the public Internet.
        find_blob: see :data:`FindBlob`.
    """

    dataset_roots: tuple[Path, ...] = ()
    output_roots: tuple[Path, ...] = ()
    private_links: bool = False
    find_blob: FindBlob = no_blobs


@dataclass(frozen=True)
class Asked:
    """A task that a caller asks for.

    Attributes:
        request: for the client.
        name: of its dataset's file.
        output: directory for the model; None for one in the node's data directory.
        token: of the caller.
        content: SHA-256 of what is asked for, without the token, hexadecimal.
    """

    request: TaskRequest
    name: str
    output: Path | None
    token: str
    content: str


class Reader:
    """Reads definitions beside the event loop, a bounded number of them.

    Args:
        rules: what callers may name.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="definitions")
        self._waiting = 0

    def close(self) -> None:
        """Read no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def definition(self, text: str) -> TaskDefinition:
        """What a text says.

        Raises:
            TaskError: it is wrong.
            ServiceError: too many wait already.
        """
        if self._waiting >= MAX_WAITING:
            raise Overloaded(f"{self._waiting} definitions wait to be read already", retry_after=1.0)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, task_definition.load, text)
        finally:
            self._waiting -= 1

    async def asked(self, request: pb.SubmitRequest) -> Asked:
        """What a caller asks for.

        Raises:
            TaskError: the definition is wrong.
            DataError: the dataset is not there.
            ServiceError: it is where none may be read, the request makes no sense, or too many wait already.
        """
        allowed = _allowed(request.allowed_nodes)
        output = self._output(request.output)
        waiting = _waiting_period(request)
        definition = await self.definition(request.definition)
        made = written(request.definition, definition, Path("/"), waiting)
        dataset = request.dataset if request.HasField("dataset") else None
        source = await asyncio.to_thread(self.source, definition, dataset)
        made = replace(made, source=source, allowed=allowed, private_links=self._rules.private_links)
        name = _named(dataset) or _name(source)
        return Asked(made, name, output, request.idempotency_token, content(request))

    def source(self, definition: TaskDefinition, dataset: pb.DatasetSource | None) -> SourceSpec:
        """Where the dataset of a definition is read. Looks at the disk; call it in a thread.

        Raises:
            DataError: it is not there.
            ServiceError: nobody may read it there, or the request makes no sense.
        """
        if dataset is None or dataset.WhichOneof("source") is None:
            own = definition.ml.dataset.source
            return SourceSpec(
                self._place(own.features), None if own.labels is None else self._place(own.labels)
            )
        features = self._file(dataset, "dataset")
        if not dataset.HasField("labels"):
            return SourceSpec(features)
        if dataset.labels.HasField("labels"):
            raise invalid("dataset.labels.labels: labels have no labels of their own")
        return SourceSpec(features, self._file(dataset.labels, "dataset.labels"))

    def _file(self, named: pb.DatasetSource, field: str) -> str:
        """The file, directory or link of features or labels. For errors see :meth:`source`."""
        kind = named.WhichOneof("source")
        if kind is None:
            raise invalid(f"{field}: name a path, a blob or a link")
        if kind == "link":
            if links.scheme_of(named.link) not in ("http", "https"):
                raise invalid(f"{field}.link: {named.link[:100]!r} is not an http or https link")
            return named.link
        if kind == "path":
            return self._place(named.path)
        if not SHA256.fullmatch(named.blob_sha256):
            raise invalid(f"{field}.blob_sha256: write the 64 lower-case hexadecimal digits of a SHA-256")
        blob = self._rules.find_blob(named.blob_sha256)
        if blob is None:
            raise DataError(
                f"there is no blob {named.blob_sha256[:12]} here; put it first (BlobsService.Put)"
            )
        return str(blob)

    def _place(self, named: str) -> str:
        """A link as it is, or a path below one that the operator allows."""
        scheme = links.scheme_of(named)
        if scheme in ("http", "https"):
            return named
        path = Path(unquote(links.split(named).path) if scheme == "file" else named)
        roots = self._rules.dataset_roots
        if not path.is_absolute() and roots:
            path = next((root / path for root in roots if (root / path).exists()), roots[0] / path)
        try:
            if not _is_below(path, roots):
                raise _forbidden(path, roots)
            for entry in islice(path.iterdir(), MAX_LISTED) if path.is_dir() else ():
                if entry.is_symlink() and not _is_below(entry, roots):
                    raise _forbidden(entry, roots)
        except (OSError, ValueError) as error:
            raise DataError(f"dataset {named!r} cannot be reached: {error}; check the path") from error
        return str(path)

    def _output(self, named: str) -> Path | None:
        if not named:
            return None
        path = Path(named)
        roots = self._rules.output_roots
        if not path.is_absolute():
            raise invalid(f"output: {named!r} is not an absolute path")
        try:
            below = _is_below(path, roots)
        except (OSError, ValueError) as error:
            raise invalid(f"output: {named!r} cannot be used: {error}") from error
        if not below:
            raise invalid(
                f"output: {path} does not lie below a directory to which this node writes models"
                f" ({_listed(roots)}); leave it empty and download the model, or start the node with"
                " --output-root DIR"
            )
        return path


def content(request: pb.SubmitRequest) -> str:
    """SHA-256 of what is asked for, without the token, hexadecimal."""
    bare = pb.SubmitRequest()
    bare.CopyFrom(request)
    bare.ClearField("idempotency_token")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def check_token(token: str) -> None:
    """Refuse a token that is too long."""
    if len(token.encode()) > MAX_TOKEN_BYTES:
        raise invalid(f"idempotency_token: has more than {MAX_TOKEN_BYTES} bytes")


def _is_below(path: Path, roots: Sequence[Path]) -> bool:
    """Whether a path leads to a place below one of the roots.

    Raises:
        OSError: it leads nowhere.
        ValueError: it is none.
    """
    try:
        real = path.resolve()
    except RuntimeError as error:  # so Pythons before 3.13 say that links lead to each other
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error
    return any(real.is_relative_to(root.resolve()) for root in roots)


def _forbidden(path: Path, roots: Sequence[Path]) -> ServiceError:
    return ServiceError(
        f"dataset {path} does not lie below a directory from which this node reads datasets"
        f" ({_listed(roots)}); upload it (BlobsService.Put), or start the node with --dataset-root DIR",
        status="PERMISSION_DENIED",
    )


def _listed(roots: Sequence[Path]) -> str:
    return ", ".join(map(str, roots)) or "there is none"


def _named(dataset: pb.DatasetSource | None) -> str:
    """What the caller calls the dataset; it is shown wherever tasks are, and so is short."""
    name = dataset.name if dataset is not None else ""
    if len(name.encode()) > MAX_NAME_BYTES:
        raise invalid(f"dataset.name: has more than {MAX_NAME_BYTES} bytes")
    return name


def _name(source: SourceSpec) -> str:
    named = source.features
    path = links.split(named).path if links.scheme_of(named) else named
    name = os.path.basename(path.rstrip("/"))  # noqa: PTH119 - of a link, too
    return "" if SHA256.fullmatch(name) else name


def _allowed(peers: Sequence[str]) -> frozenset[str] | None:
    if len(peers) > MAX_ALLOWED:
        raise invalid(f"allowed_nodes: names more than {MAX_ALLOWED} nodes")
    for number, peer in enumerate(peers):
        try:
            keys.parse_peer_id(peer)
        except ValueError as error:
            raise invalid(f"allowed_nodes[{number}]: {error}") from None
    return frozenset(peers) or None


def _waiting_period(request: pb.SubmitRequest) -> str | None:
    """As a definition has it."""
    if not request.HasField("waiting_period"):
        return None
    milliseconds = request.waiting_period.seconds * 1000 + request.waiting_period.nanos // 1_000_000
    if not 100 <= milliseconds <= 24 * 3600 * 1000:
        raise invalid("waiting_period: choose 100 ms to 24 h")
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"

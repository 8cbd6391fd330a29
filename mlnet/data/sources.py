"""The files of a task's dataset: found by its definition, downloaded, hashed, watched while they are
read."""

from __future__ import annotations

import difflib
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from mlnet.data.fetching import time_limit
from mlnet.data.formats import ARRAYS
from mlnet.data.http import Interrupter, download
from mlnet.data.table import DatasetLimits
from mlnet.errors import DataError, HashMismatch, MlnetError
from mlnet.util import files, links

if TYPE_CHECKING:
    from mlnet.task.schema import DatasetSpec

_HASH_BLOCK = 1 << 20
"""Bytes that are hashed at a time."""
_MAX_FILES = 10_000
"""Of a directory that is a source: a wrong path may lead to one with millions."""
_SHOWN = 8
_DESKTOP = frozenset(("thumbs.db", "desktop.ini"))
"""What Windows puts beside the files of a directory."""
FIX = "free some space, or choose another --data-dir"


@dataclass(frozen=True)
class Sources:
    """Local files of a dataset.

    Attributes:
        features: a file, or those of a directory in the order of their names.
        labels: as many, if the labels have files of their own.
        directories: in which they were listed.
    """

    features: tuple[Path, ...]
    labels: tuple[Path, ...] = ()
    directories: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, in the order in which they are hashed."""
        return (*self.features, *self.labels)


@contextmanager
def opened(
    dataset: DatasetSpec, base_dir: Path, out_dir: Path, limits: DatasetLimits, private_links: bool
) -> Iterator[Sources]:
    """The files that a definition names; downloads last as long as the context.

    Raises:
        DataError: one cannot be reached, or they do not go together.
        StorageError: there is no room for a download.
    """
    source = dataset.source
    with ExitStack() as stack:
        place = _Place(base_dir, out_dir, limits, private_links)
        features = _local(source.features, place, stack)
        labels = features
        if source.labels is not None and source.labels != source.features:
            labels = _local(source.labels, place, stack)
        yield _listed(dataset, features, labels, limits)


def _listed(dataset: DatasetSpec, features: Path, labels: Path, limits: DatasetLimits) -> Sources:
    directories = tuple(path for path in dict.fromkeys((features, labels)) if path.is_dir())
    rows = files_in(features)
    targets: tuple[Path, ...] = ()
    if features != labels:
        targets = files_in(labels)
    elif dataset.format != "CSV" and features.is_dir():
        targets = tuple(path for path in rows if holds_labels(path))
        rows = tuple(path for path in rows if path not in targets)
    for path in (*rows, *targets):
        if not path.is_file() or path.stat().st_size > limits.source_bytes:
            raise DataError(f"dataset {path} is not a file of at most {limits.source_bytes} bytes")
    if targets and len(targets) != len(rows):
        raise DataError(
            f"dataset {features}: {len(rows)} files of features and {len(targets)} of labels; there must be"
            " one of labels for each of features, in the same order of their names"
        )
    return Sources(rows, targets, directories)


def files_in(path: Path) -> tuple[Path, ...]:
    """The path itself, or the files of a directory in the order of their names, but for those that begin
    with . or _.

    Raises:
        DataError: there is none, there are too many, or there are directories among them.
    """
    if not path.is_dir():
        return (path,)
    try:
        names = sorted(islice(path.iterdir(), _MAX_FILES + 1))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    # Such as the _SUCCESS and .crc beside the parts that Spark writes.
    found = tuple(
        file for file in names if not file.name.startswith((".", "_")) and file.name.lower() not in _DESKTOP
    )
    if inner := [file.name for file in found if file.is_dir()]:
        shown = ", ".join(inner[:_SHOWN]) + (", ..." if len(inner) > _SHOWN else "")
        raise DataError(
            f"{path} holds directories ({shown}), which are not read; give a directory that holds files of"
            " one format, or save the rows as one NPZ file"
        )
    if not found or len(names) > _MAX_FILES:
        raise DataError(
            f"{path} holds {len(found)} files; give a directory that holds 1 to {_MAX_FILES} files with rows"
        )
    return found


def holds_labels(path: Path) -> bool:
    """Whether an IDX or NPY file holds nothing but labels, beside another one with the features."""
    return any(form.is_one(path) and form.holds_labels(path) for form in ARRAYS.values())


class _Place(NamedTuple):
    """Where sources are looked for, where downloads go, and what they may do."""

    base_dir: Path
    out_dir: Path
    limits: DatasetLimits
    private_links: bool


def _local(source: str, place: _Place, stack: ExitStack) -> Path:
    base_dir, out_dir, limits, private_links = place
    scheme = links.scheme_of(source)
    if scheme in ("http", "https"):
        file = stack.enter_context(
            tempfile.NamedTemporaryFile(dir=out_dir, prefix=".source-")  # noqa: SIM115 - the stack closes it
        )

        def write(chunk: bytes) -> None:
            # Within a download, an OSError would be taken for one of the link.
            with files.written_to(out_dir, FIX):
                file.write(chunk)

        download(
            source,
            write,
            max_bytes=limits.source_bytes,
            seconds=time_limit(limits.source_bytes),
            allow_private=private_links,
            interrupter=Interrupter(),
        )
        with files.written_to(out_dir, FIX):
            file.flush()
        return Path(file.name)
    if scheme == "file":
        source = unquote(links.split(source).path)
    elif scheme:
        raise DataError(f"{source}: datasets are read from paths, file://, http:// and https:// only")
    path = base_dir / source
    try:
        path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"dataset {path} cannot be reached: {reason}; {_elsewhere(source, path)}") from error
    return path


def _elsewhere(source: str, path: Path) -> str:
    """What to do about a path that leads nowhere."""
    if source.startswith("~") or "$" in source:
        return "~ and variables stand for nothing here: write the path in full, or relative to the definition"
    if any(sign in path.name for sign in "*?"):
        return "name one file, or the directory that holds all"
    try:
        names = [found.name for found in islice(path.parent.iterdir(), _MAX_FILES)]
    except (OSError, ValueError):
        names = []
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(path.name.casefold(), folded, n=1)
    meant = f"; did you mean {folded[near[0]]}?" if near else ""
    return f"paths are relative to the definition{meant}"


def verified(dataset: DatasetSpec, sources: Sources) -> str:
    """SHA-256 of all files, one after the other, hex.

    Raises:
        DataError: one cannot be read.
        HashMismatch: it is not the one that the definition gives.
    """
    found = _digest(sources)
    if dataset.sha256 is not None and dataset.sha256 != found:
        raise HashMismatch(
            f"dataset {dataset.source.features} has the SHA-256 {found} and ml.dataset.sha256 says"
            f" {dataset.sha256};"
            " get the right file or correct the key"
        )
    return found


def _digest(sources: Sources) -> str:
    digest = hashlib.sha256()
    for path in sources.files:
        try:
            with path.open("rb") as file:
                while block := file.read(_HASH_BLOCK):
                    digest.update(block)
        except OSError as error:
            raise DataError(
                f"dataset {path} cannot be read: {error.strerror}; check its permissions"
            ) from error
    return digest.hexdigest()


@dataclass
class Seen:
    """Files as they were before they were read.

    Attributes:
        states: of each file, and of each directory in which they were listed.
        sha256: of the files, once it is known.
    """

    states: Mapping[Path, tuple[int, ...] | None]
    sha256: str = ""


@contextmanager
def unchanged(sources: Sources) -> Iterator[Seen]:
    """Nobody writes to these files within the context: else their hash is not that of what was read.

    What is read from a file that changes may be wrong in any way, so that the change is told in place of it.

    Raises:
        DataError: somebody does.
    """
    seen = Seen({path: _state(path) for path in (*sources.files, *sources.directories)})
    try:
        yield seen
    except MlnetError as error:
        _require_unchanged(sources, seen, error)
        raise
    _require_unchanged(sources, seen, None)


def _require_unchanged(sources: Sources, seen: Seen, cause: MlnetError | None) -> None:
    touched = False
    for path, before in seen.states.items():
        now = _state(path)
        if now is None or before is None or now[:-1] != before[:-1]:
            raise DataError(
                f"dataset {path} changed while it was read; wait until whatever writes it has ended, and try"
                " again"
            ) from cause
        touched = touched or now != before
    # A new name or another owner changes the last time alone; so does a writer that sets back the others.
    if touched and seen.sha256 and _digest(sources) != seen.sha256:
        raise DataError(
            f"dataset {sources.files[0]} changed while it was read; wait until whatever writes it has"
            " ended, and try again"
        ) from cause


def _state(path: Path) -> tuple[int, ...] | None:
    """What is another after a write, and after another file has taken the place; last what a new name for
    the file changes, too."""
    try:
        now = path.stat()
    except OSError:
        return None
    return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns

"""A task's dataset: found by its definition, verified, shuffled and cut into segments."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlnet.data import scaling
from mlnet.data.fetching import time_limit
from mlnet.data.formats import csv_categories as categories
from mlnet.data.formats import idx, npz
from mlnet.data.formats.csv_columns import of_definition
from mlnet.data.formats.csv_file import Wanted, line_of, read_rows
from mlnet.data.formats.csv_layout import detect
from mlnet.data.http import Interrupter, download
from mlnet.data.labels import Where, as_classes, as_targets, unused_classes
from mlnet.data.schema import Dialect, Kind, Schema
from mlnet.data.segments import SegmentFile, bounds, write_segments
from mlnet.data.table import AnyArray, FloatArray, Limits, Table, as_features
from mlnet.errors import DataError, HashMismatch, LabelError, MlnetError
from mlnet.util import files

if TYPE_CHECKING:
    from mlnet.task.schema import Dataset as DatasetDefinition
    from mlnet.task.schema import TaskDefinition

_HASH_BLOCK = 1 << 20
FIX = "free some space, or choose another --data-dir"


@dataclass(frozen=True)
class Dataset:
    """A dataset cut into segments.

    Attributes:
        segments: the ten, in the order in which they were cut.
        inputs: features of a row.
        outputs: nodes of the model's last layer: number of classes, or columns of the targets.
        rows: of all segments.
        sha256: of the source file, or of the features' file followed by the labels' file.
        schema: what the numbers stand for; it stays with the client.
        notes: how the source was understood, for people.
        columns: the same of each column of categories.
        warnings: what is accepted and may not be as its author wants it; each with the path of its key.
    """

    segments: tuple[SegmentFile, ...]
    inputs: int
    outputs: int
    rows: int
    sha256: str
    schema: Schema
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def split(definition: TaskDefinition, base_dir: Path, out_dir: Path, limits: Limits | None = None) -> Dataset:
    """Read the dataset of a definition and cut it into ten segments of shuffled rows.

    The order of the rows follows from the hash of the source alone, so the same source gives the same
    segments. Blocks while it reads and writes; call it in a thread.

    Args:
        definition: names the source, its format and hash, and the model that the labels must fit.
        base_dir: directory of the definition's file, to which paths in it are relative.
        out_dir: where the segments are made; it exists.
        limits: refused beyond these.

    Raises:
        DataError: a source cannot be reached or read, or changes meanwhile; the message names it and a fix.
        StorageError: there is no room for the segments.
        HashMismatch: it is not the one whose ``ml.dataset.sha256`` was given.
        TooFewRows: it cannot fill ten segments.
        LabelError: its labels do not fit the model's last layer and loss.
    """
    limits = limits or Limits()
    dataset = definition.ml.dataset
    classifier = definition.ml.model.loss == "CrossEntropy"
    with _sources(dataset, base_dir, out_dir, limits) as (features, labels), _unchanged(features, labels):
        sha256 = _verify(dataset, features, labels)
        read = _read(dataset, features, labels, limits, classifier=classifier)
        return _cut(definition, read, sha256, out_dir)


def _cut(definition: TaskDefinition, read: _Read, sha256: str, out_dir: Path) -> Dataset:
    """The rows of a source as segments."""
    dataset, model = definition.ml.dataset, definition.ml.model
    classifier = model.loss == "CrossEntropy"
    what = dataset.source.features
    if len(read.features) != len(read.labels):
        raise DataError(
            f"{what} has {len(read.features)} rows of features but {len(read.labels)} labels; there"
            " must be one label per row"
        )
    bounds(len(read.features))
    numbers, divisor = scaling.scaled(as_features(what, read.features), read.kind, dataset.scale)
    features = categories.encode(numbers, read.schema.features, read.coded)
    labels: NDArray[np.int64] | FloatArray
    classes: tuple[int | str, ...] = ()
    warnings: tuple[str, ...] = ()
    if classifier:
        labels, classes = as_classes(what, read.labels, model.outputs, dataset.classes, read.where)
        warnings = tuple(unused_classes(labels, classes))
    elif dataset.classes:
        raise LabelError(f"{what}: ml.dataset.classes applies to the loss CrossEntropy only; remove the key")
    else:
        labels = as_targets(what, read.labels, model.outputs)
    schema = msgspec.structs.replace(
        read.schema, inputs=features.shape[1], kind=read.kind, divisor=divisor, classes=classes
    )
    schema.to_json()  # raises where names are too long, before anything is announced
    segments = write_segments(Table(features, labels), bytes.fromhex(sha256), out_dir)
    notes = (*read.notes, *scaling.notes(numbers, read.kind, divisor))
    rows = len(features)
    return Dataset(
        segments, schema.inputs, model.outputs, rows, sha256, schema, notes, read.columns, warnings
    )


@contextmanager
def _unchanged(*paths: Path | None) -> Iterator[None]:
    """Nobody writes to these files within the context: else its hash is not that of what was read.

    What is read from a file that changes may be wrong in any way, so that the change is told in place of it.

    Raises:
        DataError: somebody does.
    """
    before = {path: _state(path) for path in paths if path is not None}
    try:
        yield
    except MlnetError as error:
        _require_unchanged(before, error)
        raise
    _require_unchanged(before, None)


def _require_unchanged(before: Mapping[Path, object], cause: MlnetError | None) -> None:
    for path, state in before.items():
        if _state(path) != state:
            raise DataError(
                f"dataset {path} changed while it was read; wait until whatever writes it has ended, and try"
                " again"
            ) from cause


def _state(path: Path) -> tuple[int, ...] | None:
    """What is another after a write, and after another file has taken the place."""
    try:
        now = path.stat()
    except OSError:
        return None
    return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns


@contextmanager
def _sources(
    dataset: DatasetDefinition, base_dir: Path, out_dir: Path, limits: Limits
) -> Iterator[tuple[Path, Path | None]]:
    """Local files of the features and, if it is another one, of the labels; downloads last as long as the
    context."""
    source = dataset.source
    with ExitStack() as stack:
        features = _local(source.features, base_dir, out_dir, limits, stack)
        labels = None
        if source.labels is not None and source.labels != source.features:
            labels = _local(source.labels, base_dir, out_dir, limits, stack)
        yield features, labels


def _local(source: str, base_dir: Path, out_dir: Path, limits: Limits, stack: ExitStack) -> Path:
    scheme = urlsplit(source).scheme if "://" in source else ""
    if scheme in ("http", "https"):
        file = stack.enter_context(
            tempfile.NamedTemporaryFile(dir=out_dir, prefix=".source-")  # noqa: SIM115 - the stack closes it
        )

        def write(chunk: bytes) -> None:
            # Within a download, an OSError would be taken for one of the link.
            with files.written_to(out_dir, FIX):
                file.write(chunk)

        # The user's own definition names this link, so it may lead to the user's own network.
        download(
            source,
            write,
            max_bytes=limits.source_bytes,
            seconds=time_limit(limits.source_bytes),
            allow_private=True,
            interrupter=Interrupter(),
        )
        with files.written_to(out_dir, FIX):
            file.flush()
        return Path(file.name)
    if scheme == "file":
        source = unquote(urlsplit(source).path)
    elif scheme:
        raise DataError(f"{source}: datasets are read from paths, file://, http:// and https:// only")
    path = base_dir / source
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise DataError(
            f"dataset {path} cannot be reached: {error}; paths are relative to the definition"
        ) from error
    if not path.is_file() or size > limits.source_bytes:
        raise DataError(f"dataset {path} is not a file of at most {limits.source_bytes} bytes")
    return path


def _verify(dataset: DatasetDefinition, features: Path, labels: Path | None) -> str:
    digest = hashlib.sha256()
    for path in filter(None, (features, labels)):
        try:
            with path.open("rb") as file:
                while block := file.read(_HASH_BLOCK):
                    digest.update(block)
        except OSError as error:
            raise DataError(
                f"dataset {path} cannot be read: {error.strerror}; check its permissions"
            ) from error
    found = digest.hexdigest()
    if dataset.sha256 is not None and dataset.sha256 != found:
        raise HashMismatch(
            f"dataset {dataset.source.features} has the SHA-256 {found} and ml.dataset.sha256 says"
            f" {dataset.sha256};"
            " get the right file or correct the key"
        )
    return found


@dataclass(frozen=True)
class _Read:
    """What a source holds: arrays, how people find a label in it, and its columns.

    Attributes:
        features: (rows, values of a row), categories apart.
        labels: (rows,) or (rows, width).
        kind: how features stand in the file.
        schema: of the columns.
        where: what to call the label of a row.
        notes: how the source was understood.
        coded: the features that are categories, by place.
        columns: what people should know of these.
    """

    features: AnyArray
    labels: AnyArray
    kind: Kind
    schema: Schema
    where: Where = "labels[{}]".format
    notes: tuple[str, ...] = ()
    coded: Mapping[int, categories.Coded] = field(default_factory=dict)
    columns: tuple[str, ...] = ()


def _read(
    dataset: DatasetDefinition, features: Path, labels: Path | None, limits: Limits, *, classifier: bool
) -> _Read:
    schema = Schema(dataset.format, 1)
    if dataset.format == "MNIST":
        if labels is None:
            raise DataError(
                f"dataset {features}: MNIST keeps the labels in a second file; name it in"
                " ml.dataset.source.labels"
            )
        return _Read(idx.read_images(features, limits), idx.read_labels(labels, limits), "bytes", schema)
    if dataset.format == "NPZ":
        two = labels is not None
        values = npz.read_array(features, "features", limits, alone=two)
        targets = npz.read_array(labels or features, "labels", limits, alone=two)
        return _Read(values, targets, scaling.kind(values), schema)
    if labels is not None:
        raise DataError(
            f"dataset {features}: CSV is one file; name its column of labels in ml.dataset.label-column"
        )
    return _read_csv(dataset, features, limits, classifier=classifier)


def _read_csv(dataset: DatasetDefinition, path: Path, limits: Limits, *, classifier: bool) -> _Read:
    dialect = Dialect(dataset.delimiter, dataset.header, dataset.decimal, dataset.comment)
    layout = detect(path, dialect, limits)
    choice = of_definition(path, layout, dataset)
    found = dict.fromkeys(choice.categories)
    rows = read_rows(path, layout, Wanted(choice.features, choice.label, classifier, found), limits)
    coded = rows.categories
    categories.require_certain(path, layout, coded, choice.said, choice.ignored)
    schema = Schema(
        "CSV",
        1,
        width=layout.width,
        names=layout.names or (),
        label=choice.label,
        ignored=choice.ignored,
        categories={place: column.values for place, column in coded.items()},
        dialect=dialect,
    )

    def where(row: int) -> str:
        return f"the label in line {line_of(path, layout, row, limits)}"

    assert rows.labels is not None  # noqa: S101 - they were asked for
    notes = (*layout.notes, *choice.notes)
    columns = tuple(categories.notes(layout, coded))
    kind = scaling.kind(rows.numbers)
    return _Read(rows.numbers, rows.labels, kind, schema, where, notes, coded, columns)

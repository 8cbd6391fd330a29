"""A task's dataset: found by its definition, verified, shuffled and cut into segments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlnet.data import scaling
from mlnet.data.formats import csv_categories as categories
from mlnet.data.labels import as_classes, as_targets, doubtful_classes
from mlnet.data.reading import Read, read
from mlnet.data.schema import Schema
from mlnet.data.segments import bounds, write_segments
from mlnet.data.sources import opened, unchanged, verified
from mlnet.data.table import DatasetLimits, FloatArray, Table, as_features
from mlnet.errors import DataError, LabelError
from mlnet.task.segments import Segment

if TYPE_CHECKING:
    from mlnet.task.schema import TaskDefinition


@dataclass(frozen=True)
class Dataset:
    """A dataset cut into segments.

    Attributes:
        segments: the ten, in the order in which they were cut.
        files: theirs, in the same order.
        inputs: features of a row.
        outputs: nodes of the model's last layer: number of classes, or columns of the targets.
        rows: of all segments.
        sha256: of the source's files: those of the features, followed by those of the labels.
        schema: what the numbers stand for; it stays with the client.
        notes: how the source was understood, for people.
        columns: the same of each column of categories.
        warnings: what is accepted and may not be as its author wants it; each with the path of its key.
    """

    segments: tuple[Segment, ...]
    files: tuple[Path, ...]
    inputs: int
    outputs: int
    rows: int
    sha256: str
    schema: Schema
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def split(
    definition: TaskDefinition,
    base_dir: Path,
    out_dir: Path,
    limits: DatasetLimits | None = None,
    *,
    private_links: bool = True,
) -> Dataset:
    """Read the dataset of a definition and cut it into ten segments of shuffled rows.

    The order of the rows follows from the hash of the source alone, so the same source gives the same
    segments. Blocks while it reads and writes; call it in a thread.

    Args:
        definition: names the source, its format and hash, and the model that the labels must fit.
        base_dir: directory of the definition's file, to which paths in it are relative.
        out_dir: where the segments are made; it exists.
        limits: refused beyond these.
        private_links: whether a link may lead to an address that is not of the public Internet: the user's
            own definition may lead to the user's own network.

    Raises:
        DataError: a source cannot be reached or read, or changes meanwhile; the message names it and a fix.
        StorageError: there is no room for the segments.
        HashMismatch: it is not the one whose ``ml.dataset.sha256`` was given.
        TooFewRows: it cannot fill ten segments.
        LabelError: its labels do not fit the model's last layer and loss.
    """
    limits = limits or DatasetLimits()
    dataset = definition.ml.dataset
    classifier = definition.ml.model.loss == "CrossEntropy"
    with opened(dataset, base_dir, out_dir, limits, private_links) as sources, unchanged(sources) as seen:
        seen.sha256 = verified(dataset, sources)
        found = read(dataset, sources, limits, classifier=classifier)
        return _cut(definition, found, seen.sha256, out_dir)


def _cut(definition: TaskDefinition, found: Read, sha256: str, out_dir: Path) -> Dataset:
    """The rows of a source as segments."""
    dataset, model = definition.ml.dataset, definition.ml.model
    classifier = model.loss == "CrossEntropy"
    what = dataset.source.features
    if len(found.features) != len(found.labels):
        raise DataError(
            f"{what} has {len(found.features)} rows of features but {len(found.labels)} labels; there"
            " must be one label per row"
        )
    bounds(len(found.features))
    numbers, divisor = scaling.scaled(as_features(what, found.features), found.kind, dataset.scale)
    features = categories.encode(numbers, found.schema.features, found.coded)
    if not features.shape[1]:
        raise DataError(f"{what}: a row has no values; save at least one feature")
    labels: NDArray[np.int64] | FloatArray
    classes: tuple[int | str, ...] = ()
    warnings: tuple[str, ...] = ()
    if classifier:
        labels, classes = as_classes(what, found.labels, model.outputs, dataset.classes, found.where)
        warnings = tuple(doubtful_classes(labels, classes, dataset.format))
    elif dataset.classes:
        raise LabelError(f"{what}: ml.dataset.classes applies to the loss CrossEntropy only; remove the key")
    else:
        labels = as_targets(what, found.labels, model.outputs)
    schema = msgspec.structs.replace(
        found.schema, inputs=features.shape[1], kind=found.kind, divisor=divisor, classes=classes
    )
    schema.to_json()  # raises where names are too long, before anything is announced
    segments = write_segments(Table(features, labels), bytes.fromhex(sha256), out_dir)
    notes = (*found.notes, *scaling.notes(numbers, found.kind, divisor))
    rows = len(features)
    return Dataset(
        tuple(segments.values()),
        tuple(segments),
        schema.inputs,
        model.outputs,
        rows,
        sha256,
        schema,
        notes,
        found.columns,
        (*found.warnings, *warnings),
    )

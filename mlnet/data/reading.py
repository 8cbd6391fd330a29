"""The rows of a task's dataset as they stand in its files: arrays, and what is known of their columns."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlnet.data import scaling
from mlnet.data.formats import ARRAYS, csv_doubts
from mlnet.data.formats import csv_categories as categories
from mlnet.data.formats.base import ArrayFormat
from mlnet.data.formats.csv_columns import of_definition
from mlnet.data.formats.csv_file import CsvRows, Wanted, first_rows, line_of, read_rows
from mlnet.data.formats.csv_layout import Layout, detect
from mlnet.data.labels import Where
from mlnet.data.schema import Dialect, Kind, Schema
from mlnet.data.sources import Sources
from mlnet.data.table import AnyArray, DatasetLimits, FloatArray, check_shape
from mlnet.errors import DataError

if TYPE_CHECKING:
    from mlnet.task.schema import DatasetSpec


@dataclass(frozen=True)
class Read:
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
        warnings: what is accepted and may not be as the author of a table wants it.
    """

    features: AnyArray
    labels: AnyArray
    kind: Kind
    schema: Schema
    where: Where = "labels[{}]".format
    notes: tuple[str, ...] = ()
    coded: Mapping[int, categories.Coded] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read(dataset: DatasetSpec, sources: Sources, limits: DatasetLimits, *, classifier: bool) -> Read:
    """The rows of all files, in their order.

    Args:
        dataset: as the definition has it.
        sources: its files.
        limits: refused beyond these.
        classifier: whether labels are classes, which may be texts.

    Raises:
        DataError: a file cannot be read, or does not go with the others; the message names it and a fix.
    """
    if dataset.format == "CSV":
        return _read_csv(dataset, sources, limits, classifier=classifier)
    form = ARRAYS[dataset.format]
    if form.LABELS_APART and not sources.labels:
        raise DataError(
            f"dataset {sources.features[0]}: {dataset.format} keeps the labels in a second file; name it in"
            " ml.dataset.source.labels"
        )
    parts = [_arrays(form, sources, at, limits) for at in range(len(sources.features))]
    features, labels = (_joined(sources, [part[side] for part in parts], limits) for side in (0, 1))
    kind = form.KIND or scaling.kind(features)
    notes = (f"{len(parts)} files",) if len(parts) > 1 else ()
    return Read(features, labels, kind, Schema(dataset.format, 1), notes=notes)


def _arrays(form: ArrayFormat, sources: Sources, at: int, limits: DatasetLimits) -> tuple[AnyArray, AnyArray]:
    """Features and labels of one file, or of two."""
    path = sources.features[at]
    other = sources.labels[at] if sources.labels else path
    two = other != path
    values = form.read(path, "features", limits, alone=two)
    targets = form.read(other, "labels", limits, alone=two)
    for name, array, where in (("features", values, path), ("labels", targets, other)):
        if not array.ndim:
            raise DataError(f"{where}: {name} is a single value; save an array that has one for each row")
    if len(sources.features) > 1 and len(values) != len(targets):
        raise DataError(
            f"{path} has {len(values)} rows of features and {other.name} {len(targets)} labels; there must be"
            " one label per row"
        )
    return values, targets


def _joined(sources: Sources, arrays: Sequence[AnyArray], limits: DatasetLimits) -> AnyArray:
    """The arrays of several files as one.

    Raises:
        DataError: they are of different types or widths, or too large together.
    """
    if len(arrays) == 1:
        return arrays[0]
    first = arrays[0]
    for path, array in zip(sources.features, arrays, strict=True):
        alike = array.dtype == first.dtype or {array.dtype.kind, first.dtype.kind} in ({"U"}, {"S"})
        if not alike or array.shape[1:] != first.shape[1:]:
            raise DataError(
                f"{path} holds an array of {array.dtype} and shape {array.shape}, and"
                f" {sources.features[0].name} one of {first.dtype} and shape {first.shape}; save all files"
                " of a directory alike"
            )
    rows = sum(map(len, arrays))
    check_shape(str(sources.features[0].parent), (rows, *first.shape[1:]), max(4, first.itemsize), limits)
    return np.concatenate(arrays)


def _read_csv(dataset: DatasetSpec, sources: Sources, limits: DatasetLimits, *, classifier: bool) -> Read:
    paths = sources.features
    if sources.labels:
        raise DataError(
            f"dataset {paths[0]}: CSV is one file; name its column of labels in ml.dataset.label-column"
        )
    dialect = Dialect(dataset.delimiter, dataset.header, dataset.decimal, dataset.comment)
    layouts = _layouts(paths, dialect, limits)
    layout = layouts[0]
    choice = of_definition(paths[0], layout, dataset)
    wanted = Wanted(choice.features, choice.label, classifier, dict.fromkeys(choice.categories))
    collector = categories.Collector(layout, wanted.categories)
    parts: list[CsvRows] = []
    for path, one in zip(paths, layouts, strict=True):
        parts.append(read_rows(path, one, wanted, limits, collector))
        check_shape(str(path), (sum(len(part.numbers) for part in parts), layout.width), 4, limits)
    coded = collector.coded()
    categories.require_certain(layout, coded, choice.said, choice.ignored)
    schema = Schema(
        "CSV",
        1,
        width=layout.width,
        names=layout.names or (),
        label=choice.label,
        ignored=choice.ignored,
        categories={place: column.values for place, column in coded.items()},
        dialect=dialect,
        counted=layout.names is None and _counts(parts[0].numbers[0], wanted.numbers),
    )
    # Each category takes a column of its own.
    rows = sum(len(part.numbers) for part in parts)
    check_shape(str(paths[0]), (rows, categories.width(schema)), 4, limits)
    starts = list(accumulate((len(part.numbers) for part in parts), initial=0))

    def where(row: int) -> str:
        at = bisect_right(starts, row) - 1
        line = line_of(paths[at], layouts[at], row - starts[at], limits)
        return f"the label in line {line}" + (f" of {paths[at].name}" if len(paths) > 1 else "")

    numbers = np.concatenate([part.numbers for part in parts])
    several = (f"{len(paths)} files",) if len(paths) > 1 else ()
    notes = (*several, *layout.notes, *choice.notes)
    columns = tuple(categories.notes(layout, coded))
    warnings = csv_doubts.warnings(
        layout,
        first_rows(paths[0], layout, limits),
        choice,
        said=dataset.ignore_columns is not None,
        texts=classifier,
    )
    labels, kind = _labels(parts), scaling.kind(numbers)
    return Read(numbers, labels, kind, schema, where, notes, coded, columns, tuple(warnings))


def _counts(row: FloatArray, places: Sequence[int]) -> bool:
    """Whether a row is 0, 1, 2, ..., with or without the columns that are not features."""
    return row.tolist() in (list(range(len(row))), list(places))


def _layouts(paths: Sequence[Path], dialect: Dialect, limits: DatasetLimits) -> list[Layout]:
    """How each file stands, all with the same columns.

    Raises:
        DataError: one is no table, or has other columns than the first.
    """
    layouts = [detect(paths[0], dialect, limits)]
    first = layouts[0]
    for path in paths[1:]:
        layout = detect(path, dialect, limits, known=first.names or ())
        if (layout.names, layout.width) != (first.names, first.width):
            raise DataError(
                f"{path} has {_columns(layout)}, and {paths[0].name} {_columns(first)}; give all files of a"
                " directory the same columns in the same order"
            )
        layouts.append(layout)
    return layouts


def _columns(layout: Layout) -> str:
    if layout.names is None:
        return f"{layout.width} columns without names"
    return f"the columns {categories.listed(layout.names)}"


def _labels(parts: Sequence[CsvRows]) -> AnyArray:
    """Numbers if they are numbers in all files, and texts otherwise."""
    found = [part.labels for part in parts if part.labels is not None]
    if any(labels.dtype.kind == "O" for labels in found):
        texts = [
            labels
            if labels.dtype.kind == "O"
            else [categories.plain(str(label)) for label in labels.tolist()]
            for labels in found
        ]
        return np.concatenate([np.array(labels, dtype=object) for labels in texts])
    return np.concatenate(found)

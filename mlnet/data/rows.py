"""New rows for a trained model, from a file of any format that datasets and segments have, or a directory
of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from mlnet.data import scaling
from mlnet.data.formats import ARRAYS
from mlnet.data.formats import csv_categories as categories
from mlnet.data.formats.csv_columns import Choice, of_schema
from mlnet.data.formats.csv_file import Wanted, first_values, read_rows
from mlnet.data.formats.csv_layout import Layout, detect
from mlnet.data.formats.csv_values import is_missing, is_number
from mlnet.data.schema import Dialect, Schema
from mlnet.data.segments import opened
from mlnet.data.sources import files_in, holds_labels
from mlnet.data.table import DatasetLimits, FloatArray, as_features, check_shape
from mlnet.errors import DataError

OPTIONS = "--"
"""How messages name the settings of a table when there is no definition: as options of the command."""


@dataclass(frozen=True)
class Rows:
    """Rows for a model.

    Attributes:
        features: float32 (rows, inputs), scaled and ordered as in training.
        notes: what people should know of how they were read.
    """

    features: FloatArray
    notes: tuple[str, ...] = ()


def read(
    path: Path,
    inputs: int,
    schema: Schema | None,
    dialect: Dialect | None = None,
    limits: DatasetLimits | None = None,
) -> Rows:
    """Read rows as a model takes them.

    Args:
        path: the file, or a directory of files of one format, which are read in the order of their names.
        inputs: features of a row.
        schema: of the model's training; None if its file has none.
        dialect: of a CSV, where what it looks like is not enough.
        limits: refused beyond these.

    Raises:
        DataError: it cannot be read, or does not fit the model.
    """
    limits = limits or DatasetLimits()
    found: list[Rows] = []
    kinds: set[str] = set()
    rows = 0
    for file in _files(path):
        kind = _format(file)
        kinds.add(kind)
        if len(kinds) > 1:
            raise DataError(
                f"{path} holds files of more than one format ({', '.join(sorted(kinds))}), such as"
                f" {file.name}; keep one format in it"
            )
        found.append(_read(file, kind, inputs, schema, dialect, limits))
        rows += len(found[-1].features)
        check_shape(str(path), (rows, inputs), 4, limits)
    notes = dict.fromkeys(note for part in found for note in part.notes)
    return Rows(np.concatenate([part.features for part in found]), tuple(notes))


def _files(path: Path) -> list[Path]:
    """The files with rows: not those with nothing but labels beside them."""
    if not path.is_dir():
        return [path]
    files = [file for file in files_in(path) if not holds_labels(file)]
    if not files:
        raise DataError(f"{path} holds files of labels only; give a directory that holds rows")
    return files


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path") from error


def _format(path: Path) -> str:
    start = _start(path)
    for name, form in ARRAYS.items():
        if form.is_one(path):
            return name
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return "segment"
    return "CSV"


def _read(
    path: Path, kind: str, inputs: int, schema: Schema | None, dialect: Dialect | None, limits: DatasetLimits
) -> Rows:
    if kind == "CSV":
        return _read_csv(path, inputs, schema, dialect, limits)
    if kind == "segment":
        with opened(path) as tensors:
            if "features" not in tensors.keys():  # noqa: SIM118 - not a mapping
                raise DataError(f"{path} holds no tensor 'features'; is it a segment?")
            features = as_features(str(path), tensors.get_tensor("features"))
        _require_width(path, features.shape[1], inputs)
        return Rows(features)
    values = ARRAYS[kind].read(path, "features", limits, alone=True)
    features = as_features(str(path), values)
    _require_width(path, features.shape[1], inputs)
    alike = schema is not None and schema.format == kind
    return Rows(scaling.scaled_alike(path, features, scaling.stored(values), schema, table=alike))


def _require_width(path: Path, width: int, inputs: int) -> None:
    if width != inputs:
        raise DataError(
            f"{path} has rows of {width} values, but the model takes {inputs}; leave out everything"
            " but its features"
        )


def _read_csv(
    path: Path, inputs: int, schema: Schema | None, dialect: Dialect | None, limits: DatasetLimits
) -> Rows:
    """Rows of a CSV: as the training's file was read if that fits, and otherwise as it looks."""
    said = schema.dialect if schema is not None else Dialect()
    if dialect is not None or said == Dialect():
        return _read_table(path, inputs, schema, dialect or Dialect(), limits)
    # That the training's file had no names does not mean that this one has none.
    unsaid = (msgspec.structs.replace(said, header=None),) if said.header is False else ()
    for attempt in (*unsaid, said):
        try:
            return _read_table(path, inputs, schema, attempt, limits)
        except categories.UnknownCategory:
            raise
        except DataError:
            pass
    return _read_table(path, inputs, schema, Dialect(), limits)


def _read_table(
    path: Path, inputs: int, schema: Schema | None, dialect: Dialect, limits: DatasetLimits
) -> Rows:
    columns = schema if schema is not None and schema.format == "CSV" else Schema("CSV", inputs, width=inputs)
    names = tuple(columns.names[place] for place in columns.features) if columns.names else ()
    layout = detect(path, dialect, limits, known=names, counted=not columns.counted, keys=OPTIONS)
    choice = of_schema(path, layout, columns, "the model")
    if choice.label is not None and not (columns.names and layout.names):
        _require_labels(path, layout, choice, columns, limits)
    places = zip(columns.features, choice.features, strict=True)
    known = {place: columns.categories[at] for at, place in places if at in columns.categories}
    rows = read_rows(path, layout, Wanted(choice.features, categories=known), limits)
    found = scaling.stored(rows.numbers)
    numbers = scaling.scaled_alike(path, rows.numbers, found, schema, table=True)
    check_shape(str(path), (len(numbers), inputs), 4, limits)
    notes = choice.notes
    if layout.names and not columns.names and all(map(is_number, layout.names)):
        shown = ", ".join(layout.names[:3])
        notes = (f"the line {shown}, ... is taken for names; --no-header says that it is a row", *notes)
    return Rows(categories.encode(numbers, choice.features, rows.categories), notes)


def _require_labels(
    path: Path, layout: Layout, choice: Choice, schema: Schema, limits: DatasetLimits
) -> None:
    """Refuse a file whose columns no name tells apart, if what stands in place of the labels is none of
    them."""
    place = choice.label
    if place is None or not schema.classes:
        return
    known = {str(name) for name in schema.classes}
    for number, value in first_values(path, layout, place, limits):
        if not is_missing(value) and value not in known and categories.plain(value) not in known:
            raise DataError(
                f"{path}, line {number}: {layout.shown(place)} holds {value[:40]!r}, which is not one of the"
                " model's classes, although its training had the labels there; put the columns in"
                " the order of the training's file, or leave the labels out"
            )

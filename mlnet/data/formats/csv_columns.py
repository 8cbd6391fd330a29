"""Which columns of a CSV file are features and which is the label: in training by the definition, later by
the model's schema."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlnet.data.formats.csv_layout import Layout
from mlnet.data.schema import Schema
from mlnet.errors import DataError
from mlnet.task.schema import DatasetSpec

_SHOWN = 8
_LABELS = frozenset(("label", "labels", "target", "targets", "class", "ground_truth", "groundtruth"))
"""Names of no feature."""


@dataclass(frozen=True)
class Choice:
    """Places of columns in a file.

    Attributes:
        features: in the order in which the model takes them.
        label: of the label; None where it is not there.
        ignored: of the others.
        categories: of the features whose values are categories: those of texts, and those which are said.
        said: of these, those which the definition names.
        notes: what people should know.
    """

    features: tuple[int, ...]
    label: int | None
    ignored: tuple[int, ...]
    categories: tuple[int, ...] = ()
    said: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def of_definition(path: Path, layout: Layout, dataset: DatasetSpec) -> Choice:
    """The columns that a definition means.

    Raises:
        DataError: there is no such column, nothing is left for features, or what a column is stays in doubt.
    """
    notes = []
    if dataset.ignore_columns is not None:
        ignored = {_place(path, layout, one, "ignore-columns") for one in dataset.ignore_columns}
    else:
        ignored = set() if layout.index is None else {layout.index}
    rest = [place for place in range(layout.width) if place not in ignored]
    if dataset.label_column is None:
        label = rest[-1] if rest else -1
        _require_no_other_label(path, layout, rest)
    else:
        label = _place(path, layout, dataset.label_column, "label-column")
        if label in ignored and dataset.ignore_columns is None:
            ignored.discard(label)
    values = "1 value" if layout.width == 1 else f"{layout.width} values"
    if label in ignored or len(rest) - (label in rest) < 1:
        raise DataError(
            f"{path}: each row has {values}, which leaves no column for the label or for a feature; check the"
            " keys ml.dataset.label-column, ml.dataset.ignore-columns and ml.dataset.delimiter"
        )
    if layout.counting and dataset.ignore_columns is None and label != 0:
        raise DataError(
            f"{path}: is column 0, which counts the rows, a feature? Write ml.dataset.ignore-columns: [0]"
            " if not, and [] if it is"
        )
    if dataset.ignore_columns is None and layout.index is not None and layout.index in ignored:
        notes.append(f"{layout.shown(layout.index)} looks like a row index and is ignored")
    features = tuple(place for place in range(layout.width) if place not in ignored and place != label)
    notes.append(f"{layout.shown(label)} is the label")
    said = {_place(path, layout, one, "category-columns") for one in dataset.category_columns}
    for place in sorted(said - set(features)):
        what = "is the label" if place == label else "is ignored"
        raise DataError(
            f"{path}: ml.dataset.category-columns: {layout.shown(place)} {what}; take it out of the list"
        )
    categories = tuple(place for place in features if place in said or layout.kinds[place] == "text")
    return Choice(features, label, tuple(sorted(ignored)), categories, tuple(sorted(said)), tuple(notes))


def _meant(wanted: str, layout: Layout) -> str:
    """What was likely meant by a name that no column has."""
    if wanted.lstrip("-").isdecimal() and abs(int(wanted)) < layout.width:
        return f". For the place {wanted}, write it without quotes"
    alike = {name.casefold(): name for name in layout.names or ()}
    near = difflib.get_close_matches(wanted.casefold(), alike, n=1)
    return f". Did you mean {alike[near[0]]!r}?" if near else ""


def _require_no_other_label(path: Path, layout: Layout, rest: Sequence[int]) -> None:
    """Refuse to take the last column for the label where another one is called so.

    Raises:
        DataError: names both.
    """
    called = [place for place in rest if layout.names and layout.names[place].casefold() in _LABELS]
    if called and rest[-1] not in called:
        raise DataError(
            f"{path}: is {layout.shown(called[0])} the label, or the last one,"
            f" {layout.shown(rest[-1])}? Write"
            f" ml.dataset.label-column: {layout.key(called[0])}, or -1 for the last one"
        )


def _place(path: Path, layout: Layout, column: str | int, key: str) -> int:
    if isinstance(column, int):
        if not -layout.width <= column < layout.width:
            raise DataError(
                f"{path}: ml.dataset.{key}: no column {column} in rows of {layout.width} values; the first is"
                " 0"
            )
        return column % layout.width
    if layout.names is None:
        raise DataError(
            f"{path}: ml.dataset.{key}: {column!r} is a name, and no line names the columns; write the"
            " position, from 0, or 'header: true' if the first line does"
        )
    wanted = " ".join(column.split())
    if layout.names.count(wanted) != 1:
        known = _shown(layout.names)
        if wanted not in layout.names:
            raise DataError(
                f"{path}: ml.dataset.{key}: no column is named {column!r}; the columns are {known}"
                f"{_meant(wanted, layout)}"
            )
        raise DataError(
            f"{path}: ml.dataset.{key}: {layout.names.count(wanted)} columns are named {column!r}; write the"
            " position of the one that you mean, from 0"
        )
    return layout.names.index(wanted)


def of_schema(path: Path, layout: Layout, schema: Schema, model: str) -> Choice:
    """The columns that a model trained on, in a file that may have them in another order, or others beside.

    Names decide where the model and the file have them, and places otherwise.

    Args:
        path: the file.
        layout: how it stands there.
        schema: of a CSV.
        model: what to call the model in errors.

    Raises:
        DataError: the columns do not fit.
    """
    if schema.names and layout.names is not None:
        return _by_name(path, layout, schema)
    return _by_place(path, layout, schema, model)


def _by_name(path: Path, layout: Layout, schema: Schema) -> Choice:
    names = layout.names or ()
    wanted = [schema.names[place] for place in schema.features]
    label_name = schema.names[schema.label] if schema.label is not None else None
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DataError(
            f"{path} lacks the columns {_shown(missing)}, which the model was trained on; it has"
            f" {_shown(names)}"
        )
    twice = [name for name in dict.fromkeys(wanted) if names.count(name) != wanted.count(name) or not name]
    twice += [name for name in dict.fromkeys(wanted) if wanted.count(name) > 1]
    if twice and names != schema.names:
        raise DataError(
            f"{path}: {names.count(twice[0])} columns are named {twice[0]!r}, so that names cannot tell which"
            " is which; give each its own name, or the columns of the training's file in their order"
        )
    features = tuple(schema.features) if twice else tuple(names.index(name) for name in wanted)
    known = {label_name, *(schema.names[place] for place in schema.ignored)}
    others = [place for place in range(layout.width) if place not in features]
    label = next((place for place in others if names[place] == label_name), None)
    strange = [names[place] for place in others if names[place] not in known and place != layout.index]
    notes = (f"the model does not know the columns {_shown(strange)}; they are ignored",) if strange else ()
    return Choice(features, label, tuple(place for place in others if place != label), notes=notes)


def _by_place(path: Path, layout: Layout, schema: Schema, model: str) -> Choice:
    """By the number of columns, which tells whether label and ignored columns are there."""
    # An index that pandas has added to the file is none of the columns that the model knows.
    present = [place for place in range(layout.width) if place != layout.index or 0 in schema.ignored]
    everything = set(range(schema.width))
    label = set() if schema.label is None else {schema.label}
    ignored = set(schema.ignored)
    kept = [everything, everything - label, everything - ignored, everything - label - ignored]
    found = {tuple(sorted(places)) for places in kept if len(places) == len(present)}
    layouts = {(tuple(_at(places, schema.features)), _only(places, label)) for places in found}
    if len(layouts) == 1:
        kept_features, kept_label = layouts.pop()
        features = tuple(present[one] for one in kept_features)
        place = None if kept_label is None else present[kept_label]
        others = tuple(one for one in range(layout.width) if one not in features and one != place)
        return Choice(features, place, others)
    if not layouts:
        expected = _rows_of(schema)
        raise DataError(f"{path} has rows of {len(present)} values; {model} takes {expected}")
    raise DataError(
        f"{path} has rows of {len(present)} values, {model} was trained on {schema.width} columns, and it"
        " is not clear which of them are missing; give a line that names the columns, or all of them"
    )


def _rows_of(schema: Schema) -> str:
    text = f"{schema.inputs} features"
    if schema.label is not None:
        text += f", and beside them at most its label in column {schema.label}"
    if schema.ignored:
        text += f" and the ignored columns {', '.join(map(str, schema.ignored[:_SHOWN]))}"
    return f"{text}, of {schema.width} columns in all"


def _at(places: Sequence[int], wanted: Sequence[int]) -> list[int]:
    position = {place: index for index, place in enumerate(places)}
    return [position[place] for place in wanted]


def _only(places: Sequence[int], label: set[int]) -> int | None:
    return next((index for index, place in enumerate(places) if place in label), None)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(name or "''" for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")

"""Labels: whether they fit a model's last layer, and the number of each class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mlnet.data.schema import ClassName
from mlnet.data.table import AnyArray, FloatArray, require_finite
from mlnet.errors import DataError, LabelError

Where = Callable[[int], str]
"""How people find the label of a row in its file."""
_SHOWN = 8
_LARGEST = 2**53
"""The largest class number: up to it every integer has a double of its own, which is how labels may be
saved."""


def as_labels(what: str, values: AnyArray, *, classes: bool, outputs: int) -> NDArray[np.int64] | FloatArray:
    """Labels of a segment in the form that the loss needs.

    Args:
        what: the source, for error messages.
        values: (rows,) or (rows, width), of any numeric type.
        classes: True for a classifier (CrossEntropy), False for a regression (MSE).
        outputs: nodes of the model's last layer.

    Returns:
        int64 (rows,) class numbers for a classifier, float32 (rows, outputs) for a regression.

    Raises:
        LabelError: they do not fit.
    """
    if not classes:
        return as_targets(what, values, outputs)
    if values.dtype.kind not in "biuf":
        raise LabelError(
            f"{what}: labels of type {_type(values)} are not class numbers; write whole numbers from 0"
        )
    column = _whole(what, _column(what, values), "labels[{}]".format)
    wrong = (column < 0) | (column >= outputs)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise LabelError(
            f"{what}: labels[{row}] is {column[row]}; the model's last layer of {outputs} nodes needs class"
            f" numbers from 0 to {outputs - 1}: change the labels or the number of nodes"
        )
    return column


def as_targets(what: str, values: AnyArray, outputs: int) -> FloatArray:
    """Targets of a regression, float32 (rows, outputs).

    Raises:
        LabelError: they do not fit.
    """
    if values.dtype.kind not in "biuf" or values.ndim not in (1, 2):
        raise LabelError(
            f"{what}: labels of type {_type(values)} and shape {values.shape} are not a list of numbers;"
            " texts are labels of a classifier, with the loss CrossEntropy"
        )
    targets = np.ascontiguousarray(values.reshape(len(values), -1), dtype=np.float32)
    if targets.shape[1] != outputs:
        raise LabelError(
            f"{what}: labels have {targets.shape[1]} columns and the model's last layer {outputs} nodes;"
            " make them equal, or use the loss CrossEntropy for classes"
        )
    try:
        require_finite(what, "labels", targets)
    except DataError as error:
        raise LabelError(str(error)) from None
    return targets


def as_classes(
    what: str, values: AnyArray, outputs: int, declared: Sequence[ClassName], where: Where
) -> tuple[NDArray[np.int64], tuple[ClassName, ...]]:
    """Class numbers of labels of any kind, and what each number stands for.

    Whole numbers from 0 to ``outputs - 1`` stand for themselves. Others, and texts, are classes in their
    order if there are as many of them as the model has outputs.

    Args:
        what: the source, for error messages.
        values: (rows,) numbers or texts.
        outputs: nodes of the model's last layer.
        declared: the classes in the order of the model's outputs, where the definition says so.
        where: finds a row.

    Raises:
        LabelError: they do not fit.
    """
    column = _column(what, values)
    if column.dtype.kind not in "biuf":
        column = _texts(column)
        if not declared and (numbers := _as_numbers(column)) is not None:
            column = numbers
    if column.dtype.kind in "biuf":
        column = _whole(what, column, where)
    if declared and column.dtype.kind == "i" and any(isinstance(name, str) for name in declared):
        column = column.astype(str).astype(object)
    elif declared and column.dtype.kind == "O":
        declared = [str(name) for name in declared]
    found, first, inverse = np.unique(column, return_index=True, return_inverse=True)
    names: list[ClassName] = found.tolist()
    classes = _chosen(what, names, outputs, declared, lambda index: where(int(first[index])))
    number = {name: index for index, name in enumerate(classes)}
    numbers_of = np.array([number[name] for name in names], dtype=np.int64)
    return numbers_of[inverse.reshape(-1)], tuple(classes)


def doubtful_classes(labels: NDArray[np.int64], classes: Sequence[ClassName], source: str) -> Iterator[str]:
    """What to tell people of classes that no row has, or that differ in hardly anything.

    Args:
        labels: numbers of classes.
        classes: their names.
        source: the format of the dataset.
    """
    key = "ml.dataset.label-column" if source == "CSV" else "ml.dataset.source"
    if twins := _twins(classes):
        yield f"{key}: the labels {twins} differ in case or blanks only: are they the same?"
    rows = np.bincount(labels, minlength=len(classes))
    missing = [str(classes[number]) for number in np.flatnonzero(rows == 0).tolist()]
    if missing and len(missing) + 1 == len(classes):
        only = classes[int(np.argmax(rows))]
        yield (
            f"{key}: every row has the label {only}, so that there is nothing to learn; are these the right"
            " labels?"
        )
    elif missing:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        found = len(classes) - len(missing)
        yield (
            f"ml.model.hidden-units: the last layer has {len(classes)} nodes, and the labels are only {found}"
            f" of these classes: no row has {shown}. Write {found} nodes, unless that is meant"
        )


def _twins(names: Sequence[ClassName]) -> str:
    """Two texts that are the same but for case and blanks; empty if there are none."""
    folded: dict[str, ClassName] = {}
    for name in names:
        other = folded.setdefault(" ".join(str(name).casefold().split()), name)
        if other != name:
            return f"{other!r} and {name!r}"
    return ""


def _chosen(
    what: str, names: list[ClassName], outputs: int, declared: Sequence[ClassName], where: Where
) -> list[ClassName]:
    if declared:
        if len(declared) != outputs:
            raise LabelError(
                f"{what}: ml.dataset.classes names {len(declared)} classes and the model's last layer has"
                f" {outputs} nodes; make them equal"
            )
        for index, name in enumerate(names):
            if name not in declared:
                raise LabelError(
                    f"{what}: {where(index)} is {name!r}, which ml.dataset.classes does not name; add it"
                    " there, or correct it"
                )
        return list(declared)
    if all(isinstance(name, int) and 0 <= name < outputs for name in names):
        return list(range(outputs))
    if len(names) == outputs:
        return names
    shown = ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
    outside = next(
        (index for index, name in enumerate(names) if not (isinstance(name, int) and 0 <= name < outputs)), 0
    )
    if twins := _twins(names):
        shown += f"; {twins} differ in case or blanks only"
    fix = (
        f"write {len(names)} nodes"
        if len(names) > outputs
        else "name all classes in ml.dataset.classes"
        if len(names) == 1
        else f"name all classes in ml.dataset.classes, or write {len(names)} nodes"
    )
    are = f"are {len(names)}" if len(names) > 1 else "are no two"
    raise LabelError(
        f"{what}: {where(outside)} is {names[outside]!r}; there {are} different labels ({shown})"
        f" and the model's last layer has {outputs} nodes: {fix}, or check whether these are"
        " the labels (of a CSV, ml.dataset.label-column names them)"
    )


def _column(what: str, values: AnyArray) -> AnyArray:
    if values.dtype.kind not in "biufUSO" or values.ndim not in (1, 2):
        raise LabelError(
            f"{what}: labels of type {_type(values)} and shape {values.shape} are not a list of labels"
        )
    if values.ndim == 2 and values.shape[1] != 1:
        raise LabelError(
            f"{what}: labels have {values.shape[1]} columns; CrossEntropy needs one class a row: of one-hot"
            " labels save labels.argmax(axis=1)"
        )
    return values.reshape(-1)


def _type(values: AnyArray) -> str:
    return "text" if values.dtype.kind in "USO" else str(values.dtype)


def _texts(column: AnyArray) -> AnyArray:
    if column.dtype.kind == "S":
        return np.array([value.decode("utf-8", "replace") for value in column.tolist()], dtype=object)
    return column.astype(object)


def _as_numbers(column: AnyArray) -> NDArray[np.float64] | None:
    """Texts as numbers, if all are."""
    try:
        return np.array([float(value) for value in column.tolist()], dtype=np.float64)
    except ValueError:
        return None


def _whole(what: str, column: AnyArray, where: Where) -> NDArray[np.int64]:
    numbers = column.astype(np.float64)
    with np.errstate(invalid="ignore"):
        wrong = ~(np.isfinite(numbers) & (np.abs(numbers) <= _LARGEST) & (np.floor(numbers) == numbers))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise LabelError(
            f"{what}: {where(row)} is {column[row]}, which is not a class; classes are whole"
            " numbers or texts. Are these the labels (of a CSV, ml.dataset.label-column names them)? Numbers"
            " to be predicted need the loss MSE"
        )
    return column.astype(np.int64)

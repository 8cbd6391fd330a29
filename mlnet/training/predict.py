"""Inference on a file of new rows, for ``mlnet-node predict``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mlnet.data import rows
from mlnet.data.schema import ClassName, Dialect
from mlnet.data.table import FloatArray
from mlnet.training.evaluation import BATCH_ROWS
from mlnet.training.model import load_model, read_schema
from mlnet.util import capacity


@dataclass(frozen=True)
class Prediction:
    """A model's answers, a row each.

    Attributes:
        classes: int64 (rows,), the likeliest output; None for a regression.
        labels: the same in the user's own words, a row each; None for a regression.
        probabilities: float32 (rows,), of that class; None for a regression.
        values: float32 (rows, outputs): the probabilities of all classes, or the values of a regression.
        notes: what people should know about how the rows were read.
    """

    classes: NDArray[np.int64] | None
    labels: Sequence[ClassName] | None
    probabilities: FloatArray | None
    values: FloatArray
    notes: tuple[str, ...] = ()


@torch.no_grad()
def predict(
    model_path: str | os.PathLike[str], data_path: str | os.PathLike[str], dialect: Dialect | None = None
) -> Prediction:
    """Load a model and apply it to a file.

    Args:
        model_path: the model's file.
        data_path: CSV, NPZ or NPY, IDX images, a segment, or a directory of one of them. Labels in it are not
            used. Columns of a CSV are found by their names, or, where there are none, by their places in the
            training's file.
        dialect: of a CSV, where what it looks like is not enough.

    Raises:
        DataError: a file cannot be read, or the rows do not fit the model.
    """
    # torch counts the machine's processors, and a container may have a fraction of one.
    torch.set_num_threads(min(torch.get_num_threads(), capacity.processors()))
    model, schema = load_model(model_path), read_schema(model_path)
    found = rows.read(Path(data_path), model.architecture.inputs, schema, dialect)
    apply = model.probabilities if model.architecture.classifier else model
    features = found.features
    starts = range(0, len(features), BATCH_ROWS)
    batches = [apply(torch.from_numpy(features[start : start + BATCH_ROWS])) for start in starts]
    values: FloatArray = torch.cat(batches).numpy()
    if not model.architecture.classifier:
        return Prediction(None, None, None, values, found.notes)
    classes = values.argmax(axis=1)
    names: Sequence[ClassName] = (schema and schema.classes) or range(values.shape[1])
    labels = [names[number] for number in classes.tolist()]
    return Prediction(classes, labels, values.max(axis=1), values, found.notes)

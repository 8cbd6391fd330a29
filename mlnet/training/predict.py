"""Inference on a file of new rows: what ``mlnet-node predict`` shows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mlnet import capacity
from mlnet.data import idx, npz
from mlnet.data.csv_file import read_csv
from mlnet.data.segments import opened
from mlnet.data.table import FloatArray, Limits, as_features
from mlnet.errors import DataError
from mlnet.training.evaluation import BATCH_ROWS
from mlnet.training.model import load_model

_ARCHIVE_MAGIC = (b"PK\3\4", b"\x93NUM")
_DELIMITERS = ",;\t "


@dataclass(frozen=True)
class Prediction:
    """A model's answers, a row each.

    Attributes:
        classes: int64 (rows,), the likeliest class; None for a regression.
        probabilities: float32 (rows,), of that class; None for a regression.
        values: float32 (rows, outputs): the probabilities of all classes, or the values of a regression.
    """

    classes: NDArray[np.int64] | None
    probabilities: FloatArray | None
    values: FloatArray


@torch.no_grad()
def predict(model_path: str | os.PathLike[str], data_path: str | os.PathLike[str]) -> Prediction:
    """Load a model and apply it to a file.

    Args:
        model_path: the model's file.
        data_path: NPZ or NPY, CSV, IDX images or a segment. Labels in it are not used: the array ``labels``,
            or the last column of a CSV that has one column more than the model has inputs.

    Raises:
        DataError: a file cannot be read, or the rows do not fit the model.
    """
    # torch knows the processors of the machine, and a container may have a part of one.
    torch.set_num_threads(min(torch.get_num_threads(), capacity.processors()))
    model = load_model(model_path)
    path = Path(data_path)
    inputs = model.architecture.inputs
    features = read_features(path, inputs)
    if features.shape[1] != inputs:
        raise DataError(f"{path} has rows of {features.shape[1]} values and the model takes {inputs}")
    apply = model.probabilities if model.architecture.classifier else model
    batches = [apply(torch.from_numpy(features[start : start + BATCH_ROWS])) for start in _starts(features)]
    values: FloatArray = torch.cat(batches).numpy()
    if not model.architecture.classifier:
        return Prediction(None, None, values)
    return Prediction(values.argmax(axis=1), values.max(axis=1), values)


def _starts(features: FloatArray) -> range:
    return range(0, len(features), BATCH_ROWS)


def read_features(path: Path, inputs: int, limits: Limits | None = None) -> FloatArray:
    """Features float32 (rows, n) of a file of any format that datasets and segments have.

    Args:
        path: the file.
        inputs: what the model takes, by which a CSV's column of labels is told.
        limits: refused beyond these.

    Raises:
        DataError: it cannot be read.
    """
    limits = limits or Limits()
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path") from error
    if start[:4] in _ARCHIVE_MAGIC:
        return as_features(str(path), npz.read_array(path, "features", limits, alone=True))
    if idx.is_idx(path):
        return idx.read_images(path, limits)
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        with opened(path) as tensors:
            if "features" not in tensors.keys():  # noqa: SIM118 - not a mapping
                raise DataError(f"{path} holds no tensor 'features'; is it a segment?")
            return as_features(str(path), tensors.get_tensor("features"))
    return _read_csv_features(path, inputs, limits)


def _read_csv_features(path: Path, inputs: int, limits: Limits) -> FloatArray:
    """Rows of a CSV file whose delimiter and header are told by its first line."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline(limits.line_bytes).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is none of NPZ, IDX, safetensors and CSV") from error
    delimiter = max(_DELIMITERS, key=first.count)
    header = not all(_is_number(field) for field in first.split(delimiter))
    values = read_csv(path, delimiter=delimiter, header=header, limits=limits).values
    return values[:, :inputs] if values.shape[1] == inputs + 1 else values


def _is_number(text: str) -> bool:
    try:
        float(text.strip().strip('"'))
    except ValueError:
        return False
    return True

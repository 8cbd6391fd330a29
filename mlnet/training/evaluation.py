"""Metrics of a model over rows, as sums that the ranks can add up."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from mlnet.errors import TrainingError
from mlnet.training.model import Model

BATCH_ROWS = 4096
"""Rows that are evaluated at a time: bounds the memory for activations, whatever the number of rows."""
MAX_VALUE = 1e12
"""A larger metric means that training has diverged."""


def no_sums() -> Tensor:
    """The sums over no rows, float64 of shape (4,): number of rows, cross entropy, right answers, mean
    squared errors of the rows. In float64, since the order in which ranks add up must not show in six
    places."""
    return torch.zeros(4, dtype=torch.float64)


@torch.no_grad()
def sums(model: Model, features: Tensor, labels: Tensor) -> Tensor:
    """The sums over rows, as :func:`no_sums` describes them.

    Args:
        model: in evaluation mode on return; the caller switches back to training.
        features: float32 (rows, inputs).
        labels: int64 (rows,) or float32 (rows, outputs).
    """
    model.eval()
    total = no_sums()
    for rows, targets in _batches(features, labels):
        outputs = model(rows).double()
        total[0] += len(rows)
        if model.architecture.classifier:
            total[1] += functional.cross_entropy(outputs, targets, reduction="sum")
            total[2] += (outputs.argmax(dim=1) == targets).sum()
            outputs = torch.softmax(outputs, dim=1)
            targets = functional.one_hot(targets, outputs.shape[1])
        total[3] += (outputs - targets).square().mean(dim=1).sum()
    return total


def _batches(features: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(features), BATCH_ROWS):
        yield features[start : start + BATCH_ROWS], labels[start : start + BATCH_ROWS]


def metrics(total: Tensor, *, classifier: bool) -> dict[str, float]:
    """All metrics that apply, by the names that definitions use, rounded to six places: the precision of
    messages.

    Accuracy is the share of right answers, CrossEntropy the mean in nats, MSE the mean over rows and outputs;
    a classifier's MSE compares its probabilities with 1 for the right class and 0 for the others.

    Raises:
        TrainingError: a value is not finite, or so large that the model is of no use.
    """
    rows, cross_entropy, right, squared_error = total.tolist()
    found = {"MSE": squared_error / rows}
    if classifier:
        found |= {"Accuracy": right / rows, "CrossEntropy": cross_entropy / rows}
    for name, value in found.items():
        if not math.isfinite(value) or abs(value) > MAX_VALUE:
            raise TrainingError(f"training diverged: {name} is {value}; use a smaller learning_rate")
    return {name: round(value, 6) for name, value in found.items()}

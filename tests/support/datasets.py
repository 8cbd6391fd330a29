"""Task definitions and datasets for the tests of data and training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mlnet.task import definition as task_definition
from mlnet.task.schema import OptimizerSpec, SgdParameters, TaskDefinition

DIGITS = Path(__file__).parents[2] / "mlnet" / "examples" / "digits.npz"


def definition_text(
    *,
    dataset: dict[str, Any] | None = None,
    optimizer: dict[str, Any] | None = None,
    layers: list[dict[str, Any]] | None = None,
    loss: str = "CrossEntropy",
    metrics: tuple[str, ...] = ("Accuracy", "CrossEntropy"),
    validation: float = 0.1,
) -> str:
    """A definition; each argument replaces or extends what the digits need."""
    return json.dumps(
        {
            "version": 1,
            "payment": {"best-model-payment-amount": 100},
            "ml": {
                "dataset": {
                    "format": "NPZ",
                    "training-set-size": 0.8,
                    "test-set-size": 0.2,
                    "source": {"features": str(DIGITS)},
                }
                | (dataset or {}),
                "validation": {"strategy": {"method": "Holdout", "size": validation}},
                "optimizer": {
                    "type": "SGD",
                    "optimizer_initialization_parameters": {"learning_rate": 0.01, "momentum": 0.9},
                    "epochs": 2,
                    "batch-size": 64,
                    "initializer": {"name": "Xavier"},
                }
                | (optimizer or {}),
                "model": {
                    "type": "MLP",
                    "hidden-units": layers
                    or [
                        {"id": 1, "type": "Dense", "nodes": 16, "activation": "ReLU"},
                        {"id": 2, "type": "Dense", "nodes": 10, "activation": "Linear"},
                    ],
                    "loss": loss,
                },
                "evaluation-metrics": list(metrics),
            },
        }
    )


def definition(**changes: Any) -> TaskDefinition:
    """The same, loaded."""
    return task_definition.load(definition_text(**changes))


def save_npz(path: Path, rows: int, inputs: int = 4, classes: int = 3, seed: int = 0) -> Path:
    """A dataset of random rows with class numbers."""
    random = np.random.Generator(np.random.PCG64(seed))
    features = random.normal(size=(rows, inputs)).astype(np.float32)
    np.savez(path, features=features, labels=random.integers(0, classes, rows))
    return path


def torch_arguments(optimizer: OptimizerSpec) -> dict[str, Any]:
    """Keyword arguments of the class in ``torch.optim`` that an optimizer is named for."""
    given = optimizer.parameters
    arguments = {"lr": given.learning_rate, "weight_decay": given.weight_decay}
    if isinstance(given, SgdParameters):
        return arguments | {
            "momentum": given.momentum,
            "dampening": given.dampening,
            "nesterov": given.nesterov,
        }
    return arguments | {"betas": (given.beta1, given.beta2), "eps": given.eps, "amsgrad": given.amsgrad}

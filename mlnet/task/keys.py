"""The keys of each section of a task definition."""

from __future__ import annotations

from mlnet.task.layers import UNITS, name_of

ROOT_KEYS = ("version", "payment", "ml", "cluster")
ML_KEYS = ("dataset", "validation", "optimizer", "model", "evaluation-metrics")
CSV_KEYS = ("delimiter", "header", "label-column", "ignore-columns", "category-columns", "decimal", "comment")
DATASET_KEYS = (
    "format",
    "sha256",
    "training-set-size",
    "test-set-size",
    "source",
    "scale",
    "classes",
    *CSV_KEYS,
)
OPTIMIZER_PARAMETERS = "optimizer_initialization_parameters"
OPTIMIZER_SECTION = (
    "type",
    OPTIMIZER_PARAMETERS,
    "epochs",
    "batch-size",
    "initializer",
    "tau",
)
MODEL_KEYS = ("type", "hidden-units", "loss")
UNIT_KEYS: dict[str, tuple[str, ...]] = {name_of(unit): unit.KEYS for unit in UNITS}
_ADAM_KEYS = ("learning_rate", "weight_decay", "beta1", "beta2", "eps", "amsgrad")
OPTIMIZER_KEYS: dict[str, tuple[str, ...]] = {
    "SGD": ("learning_rate", "momentum", "weight_decay", "dampening", "nesterov"),
    "Adam": _ADAM_KEYS,
    "AdamW": _ADAM_KEYS,
}
INITIALIZER_KEYS: dict[str, tuple[str, ...]] = {
    "Xavier": ("gain",),
    "Kaiming": ("mode", "nonlinearity"),
    "Normal": ("mean", "std"),
    "Uniform": ("low", "high"),
    "Zeros": (),
}
CLUSTER_KEYS = (
    "waiting-period",
    "min-nodes",
    "max-nodes",
    "max-committee-size",
    "min-committee-size",
    "sealed-votes",
    "requirements",
)
KEYS: dict[str, tuple[str, ...]] = {
    "": ROOT_KEYS,
    "payment": ("best-model-payment-amount",),
    "ml": ML_KEYS,
    "ml.dataset": DATASET_KEYS,
    "ml.dataset.source": ("features", "labels"),
    "ml.validation": ("strategy",),
    "ml.validation.strategy": ("method", "size"),
    "ml.optimizer": OPTIMIZER_SECTION,
    f"ml.optimizer.{OPTIMIZER_PARAMETERS}": tuple(
        dict.fromkeys(name for keys in OPTIMIZER_KEYS.values() for name in keys)
    ),
    "ml.optimizer.initializer": ("name", "parameters"),
    "ml.model": MODEL_KEYS,
    "cluster": CLUSTER_KEYS,
    "cluster.requirements": ("memory", "cpus"),
}
"""The keys of each section, by its path."""

ALL_KEYS = frozenset(
    name for keys in (*KEYS.values(), *UNIT_KEYS.values(), *INITIALIZER_KEYS.values()) for name in keys
)
"""Every key of the schema, wherever it belongs."""


def _homes() -> dict[str, str]:
    places: dict[str, list[str]] = {}
    for section, keys in KEYS.items():
        for key in keys:
            places.setdefault(key, []).append(section)
    return {key: sections[0] for key, sections in places.items() if len(sections) == 1 and sections[0]}


HOMES = _homes()
"""The section of each key that belongs in one section only."""

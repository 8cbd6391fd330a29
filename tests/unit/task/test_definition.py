"""What a task definition means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.definitions import EXAMPLE, PACKAGED, ROOT, Draft

from mlnet.task import definition as task_definition
from mlnet.task.layers import Dense, Dropout
from mlnet.task.schema import (
    AdamParameters,
    Initializer,
    Kaiming,
    Normal,
    SgdParameters,
    Uniform,
    Xavier,
    Zeros,
)
from mlnet.util import yaml12, yaml_writer


@pytest.fixture
def draft() -> Draft:
    return Draft.example()


def test_the_example_is_the_digits_task() -> None:
    definition = task_definition.load_file(EXAMPLE)

    assert definition.payment_micro == 100_000_000
    assert (definition.training_segments, definition.held_out_segments) == (8, 2)
    assert definition.ml.model.hidden_units == (
        Dense(1, 128, "ReLU"),
        Dense(2, 64, "ReLU"),
        Dense(3, 10, "Softmax"),
    )
    assert definition.ml.model.outputs == 10
    assert definition.ml.model.parameter_count(64) == 65 * 128 + 129 * 64 + 65 * 10
    assert definition.ml.optimizer.parameters == AdamParameters(learning_rate=0.003)
    assert definition.cluster.waiting_period_ms == 900_000
    assert definition.cluster.requirements.memory_bytes == 2**29
    assert task_definition.warnings(definition) == []


def test_the_packaged_example_differs_in_the_path_only() -> None:
    assert EXAMPLE.read_text().replace("mlnet/examples/digits.npz", "digits.npz") == PACKAGED.read_text()
    for file in (EXAMPLE, PACKAGED):
        assert (file.parent / task_definition.load_file(file).ml.dataset.source.features).samefile(
            ROOT / "mlnet" / "examples" / "digits.npz"
        )


def test_plain_values_come_back_as_the_same_definition() -> None:
    definition = task_definition.load_file(EXAMPLE)
    plain = task_definition.to_plain(definition)

    assert task_definition.from_plain(json.loads(json.dumps(plain))) == definition
    assert task_definition.load(yaml_writer.dump_block(plain)) == definition


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("ml.optimizer.type", "AdamW"),
        ("ml.optimizer.initializer", {"name": "Uniform", "parameters": {"low": -1, "high": 1}}),
        ("ml.model.hidden-units.1", {"id": "drop", "type": "Dropout", "rate": 0}),
        ("payment.best-model-payment-amount", "0.000001"),
        ("cluster", {}),
    ],
)
def test_every_variant_comes_back(draft: Draft, path: str, value: object) -> None:
    definition = draft.set(path, value).read()

    assert task_definition.from_plain(task_definition.to_plain(definition)) == definition


def test_a_decay_of_zero_is_not_the_default_of_adamw(draft: Draft) -> None:
    draft.set("ml.optimizer.type", "AdamW")
    default = draft.read()
    draft.set("ml.optimizer.optimizer_initialization_parameters.weight_decay", 0)

    assert default.ml.optimizer.parameters.weight_decay == 0.01
    assert (
        task_definition.from_plain(
            task_definition.to_plain(draft.read())
        ).ml.optimizer.parameters.weight_decay
        == 0
    )


def test_the_cluster_has_defaults(draft: Draft) -> None:
    cluster = draft.drop("cluster").read().cluster

    assert (cluster.min_nodes, cluster.max_nodes) == (2, 64)
    assert (cluster.max_committee_size, cluster.min_committee_size) == (5, 2)
    assert (cluster.requirements.memory_bytes, cluster.requirements.cpus) == (0, 0)
    grown = draft.set("cluster", {"min-committee-size": 7}).read().cluster
    assert (grown.min_nodes, grown.max_committee_size) == (7, 7)


@pytest.mark.parametrize(
    ("amount", "micro"),
    [
        (0, 0),
        (1, 10**6),
        (12.5, 12_500_000),
        (1e-6, 1),
        ("0.000001", 1),
        ("100.10", 100_100_000),
        (123456789.123456, 123_456_789_123_456),
        (10**12, 10**18),
        ("999999999999.999999", 10**18 - 1),
    ],
)
def test_payments_are_exact(draft: Draft, amount: object, micro: int) -> None:
    assert draft.set("payment.best-model-payment-amount", amount).read().payment_micro == micro


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("100ms", 100),
        ("90s", 90_000),
        ("15m", 900_000),
        ("1h30m", 5_400_000),
        ("24h", 86_400_000),
        ("1s500ms", 1500),
    ],
)
def test_waiting_periods(draft: Draft, text: str, milliseconds: int) -> None:
    assert draft.set("cluster.waiting-period", text).read().cluster.waiting_period_ms == milliseconds


@pytest.mark.parametrize(
    ("text", "size"), [("0B", 0), ("512MiB", 2**29), ("2GB", 2 * 10**9), ("2 GiB", 2**31), ("7KB", 7000)]
)
def test_memory_sizes(draft: Draft, text: str, size: int) -> None:
    assert draft.set("cluster.requirements.memory", text).read().cluster.requirements.memory_bytes == size


@pytest.mark.parametrize("tenths", range(1, 10))
def test_shares_are_segments(draft: Draft, tenths: int) -> None:
    draft.set("ml.dataset.training-set-size", yaml12.load(f"0.{tenths}"))
    draft.set("ml.dataset.test-set-size", yaml12.load(f"0.{10 - tenths}"))

    assert draft.read().training_segments == tenths
    assert draft.read().held_out_segments == 10 - tenths


def test_a_csv_has_its_own_keys(draft: Draft) -> None:
    draft.set("ml.dataset.format", "CSV")
    assert draft.read().ml.dataset.label_column is None
    draft.set("ml.dataset.delimiter", "\t").set("ml.dataset.header", False).set("ml.dataset.label-column", -1)

    dataset = draft.read().ml.dataset

    assert (dataset.delimiter, dataset.header, dataset.label_column) == ("\t", False, -1)
    named = draft.set("ml.dataset.header", True).set("ml.dataset.label-column", "class").read()
    assert named.ml.dataset.label_column == "class"


def test_sgd_and_adam_have_their_parameters(draft: Draft) -> None:
    given = {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}
    draft.set("ml.optimizer.type", "SGD").set("ml.optimizer.optimizer_initialization_parameters", given)

    sgd = draft.read().ml.optimizer

    assert sgd.parameters == SgdParameters(0.1, momentum=0.9, nesterov=True)
    draft.set("ml.optimizer.type", "Adam")
    draft.set("ml.optimizer.optimizer_initialization_parameters", {"learning_rate": 0.1, "beta1": 0.5})
    assert draft.read().ml.optimizer.parameters == AdamParameters(0.1, beta1=0.5)


@pytest.mark.parametrize(
    ("given", "initializer"),
    [
        ({"name": "Xavier"}, Initializer("Xavier", Xavier(1.0))),
        (
            {"name": "Kaiming", "parameters": {"mode": "fan_out"}},
            Initializer("Kaiming", Kaiming("fan_out", "relu")),
        ),
        ({"name": "Normal", "parameters": {"mean": 1, "std": 2}}, Initializer("Normal", Normal(1.0, 2.0))),
        ({"name": "Uniform", "parameters": {"low": 0}}, Initializer("Uniform", Uniform(0.0, 0.05))),
        ({"name": "Zeros", "parameters": {}}, Initializer("Zeros", Zeros())),
    ],
)
def test_initializers(draft: Draft, given: dict[str, Any], initializer: Initializer) -> None:
    assert draft.set("ml.optimizer.initializer", given).read().ml.optimizer.initializer == initializer


def test_a_model_may_have_dropout_and_predict_numbers(draft: Draft) -> None:
    units = [
        {"id": 1, "type": "Dense", "nodes": 8, "activation": "Tanh"},
        {"id": "rest", "type": "Dropout", "rate": 0.5},
        {"id": 2, "type": "Dense", "nodes": 1},
    ]
    draft.set("ml.model.hidden-units", units).set("ml.model.loss", "MSE").set(
        "ml.evaluation-metrics", ["MSE"]
    )

    model = draft.read().ml.model

    assert model.hidden_units[1:] == (Dropout("rest", 0.5), Dense(2, 1, "Linear"))
    assert model.parameter_count(3) == 4 * 8 + 9


def test_what_may_be_meant_otherwise_is_a_warning(draft: Draft) -> None:
    draft.set("cluster.min-committee-size", 2).set("cluster.max-committee-size", 2)
    draft.set("ml.optimizer.initializer", {"name": "Zeros"}).drop("ml.dataset.sha256")
    draft.set("payment.best-model-payment-amount", 0)

    assert [warning.split(":")[0] for warning in task_definition.warnings(draft.read())] == [
        "cluster.max-committee-size",
        "ml.optimizer.initializer.name",
        "ml.dataset.sha256",
        "payment.best-model-payment-amount",
    ]

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from mlnet import task, yaml12
from mlnet.errors import TaskError
from mlnet.task_schema import (
    AdamParameters,
    Dense,
    Dropout,
    Initializer,
    Kaiming,
    Normal,
    SgdParameters,
    Uniform,
    Xavier,
    Zeros,
)

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "client-task-definition.yaml"
PACKAGED = ROOT / "mlnet" / "examples" / "client-task-definition.yaml"


@dataclasses.dataclass
class Draft:
    """The example in plain values, to be changed by the path of a key."""

    plain: Any

    def set(self, path: str, value: object) -> Draft:
        """The same definition with another value; the rest of the path exists."""
        *parents, last = path.split(".")
        self._at(parents)[_step(last)] = value
        return self

    def drop(self, path: str) -> Draft:
        *parents, last = path.split(".")
        del self._at(parents)[_step(last)]
        return self

    def read(self) -> task.TaskDefinition:
        return task.from_plain(self.plain)

    def _at(self, parents: list[str]) -> Any:
        place = self.plain
        for step in parents:
            place = place[_step(step)]
        return place


def _step(text: str) -> str | int:
    return int(text) if text.isdigit() else text


@pytest.fixture
def draft() -> Draft:
    return Draft(yaml12.load(EXAMPLE.read_text()))


def test_the_example_is_the_digits_task() -> None:
    definition = task.load_file(EXAMPLE)

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
    assert task.warnings(definition) == []


def test_the_packaged_example_differs_in_the_path_only() -> None:
    assert EXAMPLE.read_text().replace("mlnet/examples/digits.npz", "digits.npz") == PACKAGED.read_text()
    for file in (EXAMPLE, PACKAGED):
        assert (file.parent / task.load_file(file).ml.dataset.source.features).samefile(
            ROOT / "mlnet" / "examples" / "digits.npz"
        )


def test_plain_values_come_back_as_the_same_definition() -> None:
    definition = task.load_file(EXAMPLE)
    plain = task.to_plain(definition)

    assert task.from_plain(json.loads(json.dumps(plain))) == definition
    assert task.load(yaml12.dump_block(plain)) == definition


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

    assert task.from_plain(task.to_plain(definition)) == definition


def test_a_decay_of_zero_is_not_the_default_of_adamw(draft: Draft) -> None:
    draft.set("ml.optimizer.type", "AdamW")
    default = draft.read()
    draft.set("ml.optimizer.optimizer_initialization_parameters.weight_decay", 0)

    assert default.ml.optimizer.arguments["weight_decay"] == 0.01
    assert task.from_plain(task.to_plain(draft.read())).ml.optimizer.arguments["weight_decay"] == 0


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


def test_sgd_and_adam_have_their_arguments(draft: Draft) -> None:
    given = {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}
    draft.set("ml.optimizer.type", "SGD").set("ml.optimizer.optimizer_initialization_parameters", given)

    sgd = draft.read().ml.optimizer

    assert sgd.parameters == SgdParameters(0.1, momentum=0.9, nesterov=True)
    assert sgd.arguments == {
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 0,
        "dampening": 0,
        "nesterov": True,
    }
    draft.set("ml.optimizer.type", "Adam")
    draft.set("ml.optimizer.optimizer_initialization_parameters", {"learning_rate": 0.1, "beta1": 0.5})
    assert draft.read().ml.optimizer.arguments == {
        "lr": 0.1,
        "weight_decay": 0,
        "betas": (0.5, 0.999),
        "eps": 1e-8,
        "amsgrad": False,
    }


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


OPTIMIZER = "ml.optimizer.optimizer_initialization_parameters"
UNIT = "ml.model.hidden-units"


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("verison", 1, "did you mean version?"),
        ("version", 2, "write 1"),
        ("version", True, "write 1"),
        ("payment", 100, "found the number 100 (expected a mapping"),
        ("payment.best-model-payment-amount", -1, "found the number -1"),
        ("payment.best-model-payment-amount", "1e3", 'found the text "1e3"'),
        ("payment.best-model-payment-amount", True, "found true"),
        ("payment.best-model-payment-amount", "1000000000000.000001", "from 0 to 1000000000000"),
        ("payment.best-model-payment-amount", 1e9, "in quotes"),
        ("payment.best-model-payment-amount", 0.1 + 0.2 - 0.1, "six places"),
        ("payment.best-model-payment-amount", float("nan"), "found the number nan"),
        ("payment.best-model-payment-amount", float("inf"), "found the number inf"),
        ("ml.dataset.format", "npz", "did you mean NPZ?"),
        ("ml.dataset.sha256", "0" * 63, "64 hexadecimal digits"),
        ("ml.dataset.sha256", "g" * 64, "64 hexadecimal digits"),
        ("ml.dataset.training-set-size", 1437, "a share in tenths"),
        ("ml.dataset.training-set-size", 0.85, "a share in tenths"),
        ("ml.dataset.training-set-size", 1.0, "a share in tenths"),
        ("ml.dataset.training-set-size", float("nan"), "a share in tenths"),
        ("ml.dataset.training-set-size", "0.8", "without quotes"),
        ("ml.dataset.test-set-size", 0.3, "do not sum to 1"),
        ("ml.dataset.delimiter", ";", "only CSV has it"),
        ("ml.dataset.source.header", True, "it stands one level up: ml.dataset.header"),
        ("ml.dataset.source.features", "", "has 0 characters"),
        ("ml.dataset.source.features", "a\x1b[2J", "control character"),
        ("ml.validation.strategy.method", "KFold", "expected Holdout"),
        ("ml.validation.strategy.size", 1, "(0, 1)"),
        ("ml.validation.strategy.size", 0, "(0, 1)"),
        ("ml.optimizer.type", "RMSprop", "expected SGD or Adam or AdamW"),
        (f"{OPTIMIZER}.lr", 1, "did you mean learning_rate?"),
        (f"{OPTIMIZER}.learning-rate", 1, "did you mean learning_rate?"),
        (f"{OPTIMIZER}.momentum", 0.9, "Adam does not take it (it is for SGD"),
        (f"{OPTIMIZER}.learning_rate", 0, "(0, 1000]"),
        (f"{OPTIMIZER}.learning_rate", float("nan"), "a finite number"),
        (f"{OPTIMIZER}.learning_rate", float("inf"), "a finite number"),
        (f"{OPTIMIZER}.beta1", 1, "[0, 1)"),
        (f"{OPTIMIZER}.amsgrad", "yes", "in YAML 1.2 yes is a text"),
        ("ml.optimizer.epochs", 0, "too small"),
        ("ml.optimizer.epochs", 10**7, "too large"),
        ("ml.optimizer.epochs", 1.5, "found the number 1.5"),
        ("ml.optimizer.epochs", True, "found true"),
        ("ml.optimizer.epochs", "30", "without quotes"),
        ("ml.optimizer.epochs", None, "found nothing"),
        ("ml.optimizer.batch_size", 32, "did you mean batch-size?"),
        ("ml.optimizer.tau", 1e-3, "gradient compression does not exist yet"),
        ("ml.optimizer.initializer.name", "Kaimin", "did you mean Kaiming?"),
        ("ml.optimizer.initializer.parameters.gain", 1, "known here: mode, nonlinearity"),
        ("ml.model.type", "NeuralNetwork", "write MLP"),
        ("ml.model.loss", "Hinge", "expected CrossEntropy or MSE"),
        (f"{UNIT}", [], "has 0 items"),
        (f"{UNIT}", {}, "expected a list"),
        (f"{UNIT}.1", "Dense", "expected a mapping"),
        (f"{UNIT}.1.type", "Dens", "did you mean Dense?"),
        (f"{UNIT}.1.type", "Conv", "expected Dense or Dropout"),
        (f"{UNIT}.1.id", 1, "names an earlier layer"),
        (f"{UNIT}.1.id", 1.5, "found the number 1.5"),
        (f"{UNIT}.1.nodes", 10**12, "1000000000000 is too large (1 to 1048576"),
        (f"{UNIT}.1.nodes", 1e12, "a whole number from 1 to 1048576"),
        (f"{UNIT}.1.nodes", float("nan"), "found the number nan"),
        (f"{UNIT}.1.rate", 0.5, "Dense does not take it"),
        (f"{UNIT}.1.activation", "relu", "did you mean ReLU?"),
        (f"{UNIT}.1.activation", "Softmax", "for the last layer"),
        (f"{UNIT}.2.activation", "ReLU", "CrossEntropy does not go with ReLU"),
        (f"{UNIT}.2.nodes", 1, "at least 2 classes"),
        ("ml.evaluation-metrics", [], "has 0 items"),
        ("ml.evaluation-metrics.1", "Accuracy", "stands here twice"),
        ("ml.evaluation-metrics.1", "F1", "expected Accuracy or CrossEntropy or MSE"),
        ("cluster.waiting-period", "15:00", "such as 90s, 15m or 1h30m"),
        ("cluster.waiting-period", 900, "such as 90s, 15m or 1h30m"),
        ("cluster.waiting-period", "", "such as 90s, 15m or 1h30m"),
        ("cluster.waiting-period", "99ms", "out of range"),
        ("cluster.waiting-period", "24h1s", "out of range"),
        ("cluster.min-nodes", 1, "too small"),
        ("cluster.max-nodes", 1025, "too large"),
        ("cluster.max-committee-size", 1, "too small"),
        ("cluster.requirements.memory", 512, "such as 512MiB"),
        ("cluster.requirements.memory", "512Mib", "such as 512MiB"),
        ("cluster.requirements.gpus", 1, "did you mean cpus?"),
        ("cluster.a\x1bb", 1, "unknown key"),
    ],
)
def test_an_error_names_the_path_and_a_fix(draft: Draft, path: str, value: object, problem: str) -> None:
    with pytest.raises(TaskError) as caught:
        draft.set(path, value).read()

    steps = [f"[{step}]" if step.isdigit() else f".{step}" for step in path.split(".")]
    assert caught.value.path == "".join(steps).removeprefix(".").replace("a\x1bb", '"a\\u001bb"')
    assert problem in str(caught.value)
    assert caught.value.fix
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("path", "culprit"),
    [
        ("version", "version"),
        ("ml.dataset.source", "ml.dataset.source"),
        (f"{OPTIMIZER}.learning_rate", f"{OPTIMIZER}.learning_rate"),
        ("ml.optimizer.epochs", "ml.optimizer.epochs"),
        (f"{UNIT}.0.type", f"{UNIT}[0].type"),
        (f"{UNIT}.0.activation", f"{UNIT}[0].activation"),
        (f"{UNIT}.1.id", f"{UNIT}[1].id"),
    ],
)
def test_a_missing_key_is_named(draft: Draft, path: str, culprit: str) -> None:
    with pytest.raises(TaskError, match="missing") as caught:
        draft.drop(path).read()
    assert caught.value.path == culprit


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"cluster.min-nodes": 65}, "cluster.max-nodes"),
        ({"cluster.min-committee-size": 6}, "cluster.max-committee-size"),
        ({"cluster.min-committee-size": 3}, "cluster.min-nodes"),
        ({"ml.model.loss": "MSE"}, "ml.evaluation-metrics[0]"),
        ({"ml.dataset.format": "MNIST"}, "ml.dataset.source.labels"),
        ({"ml.dataset.format": "CSV", "ml.dataset.source.labels": "x"}, "ml.dataset.source.labels"),
        ({"ml.dataset.format": "CSV", "ml.dataset.delimiter": "::"}, "ml.dataset.delimiter"),
        ({"ml.dataset.format": "CSV", "ml.dataset.delimiter": "1"}, "ml.dataset.delimiter"),
        (
            {"ml.dataset.format": "CSV", "ml.dataset.header": False, "ml.dataset.label-column": "x"},
            "ml.dataset.label-column",
        ),
        ({"ml.dataset.format": "CSV", "ml.dataset.label-column": True}, "ml.dataset.label-column"),
        (
            {"ml.optimizer.type": "SGD", OPTIMIZER: {"learning_rate": 1, "nesterov": True}},
            f"{OPTIMIZER}.nesterov",
        ),
        (
            {"ml.optimizer.initializer": {"name": "Uniform", "parameters": {"low": 1, "high": 1}}},
            "ml.optimizer.initializer.parameters.high",
        ),
        ({f"{UNIT}.2": {"id": 3, "type": "Dropout", "rate": 0.5}}, f"{UNIT}[2]"),
        ({f"{UNIT}.0.nodes": 2**17, f"{UNIT}.1.nodes": 2**17}, UNIT),
    ],
)
def test_keys_must_go_together(draft: Draft, changes: dict[str, object], culprit: str) -> None:
    for path, value in changes.items():
        draft.set(path, value)
    with pytest.raises(TaskError) as caught:
        draft.read()
    assert caught.value.path == culprit


def test_the_features_count_in_the_size_of_a_model(draft: Draft) -> None:
    definition = draft.set(f"{UNIT}.0.nodes", 2**20).read()

    assert task.check_inputs(definition, 64) == definition.ml.model.parameter_count(64)
    with pytest.raises(TaskError, match="fewer nodes"):
        task.check_inputs(definition, 3000)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not accepted as YAML: the text is empty"),
        ("\ufeff# a byte order mark is no problem", "the text is empty"),
        ("hello", "expected a mapping with the keys version"),
        ("a: [", "not accepted as YAML: line"),
        ("version: &a [*a, *a]", "version: line 1, column 10: anchors"),
        ("version: !!python/name:os.system x", "tags"),
        ("version: 1\nversion: 1", "stands here twice"),
        ("version: " + "9" * 60_000, "version: line 1, column 10: a number longer than"),
        ("[" * 60_000, "nest"),
        ("#" * 65_537, "longer than 65536 bytes"),
        ("version: 1\n---\n", "second document"),
    ],
)
def test_text_that_is_no_definition(text: str, problem: str) -> None:
    with pytest.raises(TaskError) as caught:
        task.load(text)
    assert problem in str(caught.value)


def test_nan_in_the_text_is_named_by_its_path() -> None:
    text = EXAMPLE.read_text().replace("nodes: 64", "nodes: .nan")
    with pytest.raises(TaskError, match=r"hidden-units\[1\]\.nodes: found the number nan"):
        task.load(text)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="cannot be read"):
        task.load_file(tmp_path / "none.yaml")
    file = tmp_path / "task.yaml"
    file.write_bytes(b"version: \xff")
    with pytest.raises(TaskError, match="not UTF-8 text at byte 9"):
        task.load_file(file)
    file.write_bytes(b"#" * 65_537)
    with pytest.raises(TaskError, match="longer than 65536 bytes"):
        task.load_file(file)


def test_what_may_be_meant_otherwise_is_a_warning(draft: Draft) -> None:
    draft.set("cluster.min-committee-size", 2).set("cluster.max-committee-size", 2)
    draft.set("ml.optimizer.initializer", {"name": "Zeros"}).drop("ml.dataset.sha256")
    draft.set("payment.best-model-payment-amount", 0)

    assert [warning.split(":")[0] for warning in task.warnings(draft.read())] == [
        "cluster.max-committee-size",
        "ml.optimizer.initializer.name",
        "ml.dataset.sha256",
        "payment.best-model-payment-amount",
    ]

"""What is no task definition, and what its reader is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.definitions import EXAMPLE, Draft

from mlnet.errors import TaskError
from mlnet.task import definition as task_definition

OPTIMIZER = "ml.optimizer.optimizer_initialization_parameters"
UNIT = "ml.model.hidden-units"


@pytest.fixture
def draft() -> Draft:
    return Draft.example()


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("verison", 1, "version stands here, too"),
        ("version", 2, "write 1"),
        ("version", True, "write 1"),
        ("payment", 100, "found the number 100 (expected a mapping"),
        ("payment.best-model-payment-amount", -1, "found the number -1"),
        ("payment.best-model-payment-amount", "1e3", 'found the text "1e3"'),
        ("payment.best-model-payment-amount", True, "found true"),
        ("payment.best-model-payment-amount", "1000000000000.000001", "from 0 to 1000000000000"),
        ("payment.best-model-payment-amount", 1e9, "in quotes"),
        ("payment.best-model-payment-amount", 0.1234567, "six places"),
        ("payment.best-model-payment-amount", float("nan"), "found the number nan"),
        ("payment.best-model-payment-amount", float("inf"), "found the number inf"),
        ("ml.dataset.format", "npz", "write NPZ"),
        ("ml.dataset.sha256", "0" * 63, "64 hexadecimal digits"),
        ("ml.dataset.sha256", "g" * 64, "64 hexadecimal digits"),
        ("ml.dataset.training-set-size", 1437, "a share in tenths"),
        ("ml.dataset.training-set-size", 0.85, "a share in tenths"),
        ("ml.dataset.training-set-size", 1.0, "a share in tenths"),
        ("ml.dataset.training-set-size", float("nan"), "a share in tenths"),
        ("ml.dataset.training-set-size", "0.8", "without quotes"),
        ("ml.dataset.test-set-size", 0.3, "do not sum to 1"),
        ("ml.dataset.delimiter", ";", "only CSV has it"),
        ("ml.dataset.source.header", True, "it belongs in ml.dataset"),
        ("ml.dataset.source.features", "", "has 0 characters"),
        ("ml.dataset.source.features", "a\x1b[2J", "control character"),
        ("ml.validation.strategy.method", "KFold", "expected Holdout"),
        ("ml.validation.strategy.size", 1, "(0, 1)"),
        ("ml.validation.strategy.size", 0, "(0, 1)"),
        ("ml.optimizer.type", "RMSprop", "expected SGD or Adam or AdamW"),
        (f"{OPTIMIZER}.lr", 1, "learning_rate stands here, too"),
        ("ml.evaluation", {}, "did you mean evaluation-metrics?"),
        (f"{OPTIMIZER}.learn_rate", 1, "did you mean learning_rate?"),
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
        ("ml.optimizer.batch_size", 32, "batch-size stands here, too"),
        ("ml.optimizer.tau", 1e-3, "gradient compression does not exist yet"),
        ("ml.optimizer.initializer.name", "Kaimin", "did you mean Kaiming?"),
        ("ml.optimizer.initializer.parameters.gain", 1, "it is for Xavier; Kaiming takes mode, nonlinearity"),
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
        (f"{UNIT}.1.activation", "relu", "write ReLU"),
        (f"{UNIT}.1.activation", "Softmax", "for the last layer"),
        (f"{UNIT}.2.activation", "ReLU", "CrossEntropy does not go with ReLU"),
        (f"{UNIT}.2.nodes", 1, "at least 2 classes"),
        ("ml.evaluation-metrics", [], "has 0 items"),
        ("ml.evaluation-metrics.1", "Accuracy", "appears twice"),
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

    assert task_definition.check_inputs(definition, 64) == definition.ml.model.parameter_count(64)
    with pytest.raises(TaskError, match="fewer nodes"):
        task_definition.check_inputs(definition, 3000)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not accepted as YAML: the text is empty"),
        ("\ufeff# a byte order mark is no problem", "the text is empty"),
        ("hello", "expected a mapping with the keys version"),
        ("a: [", "line 1, column 4: not accepted as YAML: a bracket that opens on this line is not closed"),
        ("version: &a [*a, *a]", "line 1: version: anchors"),
        ("version: !!python/name:os.system x", "tags"),
        ("version: 1\nversion: 1", "appears twice"),
        ("version: " + "9" * 60_000, "line 1: version: a number longer than"),
        ("[" * 60_000, "nest"),
        ("#" * 65_537, "longer than 65536 bytes"),
        ("version: 1\n---\n", "second document"),
    ],
)
def test_text_that_is_no_definition(text: str, problem: str) -> None:
    with pytest.raises(TaskError) as caught:
        task_definition.load(text)
    assert problem in str(caught.value)


def test_nan_in_the_text_is_named_by_its_path() -> None:
    text = EXAMPLE.read_text().replace("nodes: 64", "nodes: .nan")
    with pytest.raises(TaskError, match=r"hidden-units\[1\]\.nodes: found the number nan"):
        task_definition.load(text)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="cannot be read"):
        task_definition.load_file(tmp_path / "none.yaml")
    file = tmp_path / "task.yaml"
    file.write_bytes(b"version: \xff")
    with pytest.raises(TaskError, match="not UTF-8 text at byte 9"):
        task_definition.load_file(file)
    file.write_bytes(b"#" * 65_537)
    with pytest.raises(TaskError, match="longer than 65536 bytes"):
        task_definition.load_file(file)

"""Models: building, files, and what is refused of a file from elsewhere."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save, save_file
from support.datasets import definition

from mlnet.errors import DataError, TrainingError
from mlnet.task.layers import DenseLayer, DropoutLayer
from mlnet.task.schema import Initializer, Kaiming, Normal, Uniform, Xavier, Zeros
from mlnet.training import architecture
from mlnet.training.architecture import Architecture
from mlnet.training.evaluation import metrics, no_sums, sums
from mlnet.training.model import build, load_model, read_architecture, save_model

SEED = bytes(range(32))
DIGITS = Architecture(
    64, (DenseLayer(16, "ReLU"), DropoutLayer(0.5), DenseLayer(10, "Softmax")), "CrossEntropy"
)


@pytest.mark.parametrize(
    "initializer",
    [
        Initializer(),
        Initializer("Xavier", Xavier(2.0)),
        Initializer("Kaiming", Kaiming("fan_out", "leaky_relu")),
        Initializer("Normal", Normal(0.0, 0.1)),
        Initializer("Uniform", Uniform(-0.5, 0.5)),
        Initializer("Zeros", Zeros()),
    ],
)
def test_first_weights_follow_from_the_seed(initializer: Initializer) -> None:
    first, again, other = (build(DIGITS, initializer, seed) for seed in (SEED, SEED, SEED[::-1]))
    for (name, weight), same, different in zip(
        first.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(weight, same)
        if name.endswith("bias") or initializer.name == "Zeros":
            assert not weight.any()
        else:
            assert not torch.equal(weight, different)


def test_kaiming_keeps_the_bounds_that_its_authors_give() -> None:
    weight = build(DIGITS, Initializer("Kaiming", Kaiming()), SEED).get_parameter("layers.0.weight")
    bound = (2.0 * 3.0 / 64) ** 0.5
    assert 0.9 * bound < float(weight.detach().abs().max()) <= bound


def test_the_definition_becomes_layers() -> None:
    task = definition(
        layers=[
            {"id": "a", "type": "Dense", "nodes": 8, "activation": "Tanh"},
            {"id": "b", "type": "Dropout", "rate": 0.25},
            {"id": "c", "type": "Dense", "nodes": 10},
        ]
    )
    found = architecture.of_definition(task, 64)
    assert found == Architecture(
        64, (DenseLayer(8, "Tanh"), DropoutLayer(0.25), DenseLayer(10)), "CrossEntropy"
    )
    assert found.parameters == task.ml.model.parameter_count(64) == 64 * 8 + 8 + 8 * 10 + 10
    assert (found.outputs, found.classifier) == (10, True)


@pytest.mark.parametrize("activation", ["Linear", "ReLU", "LeakyReLU", "GELU", "Tanh", "Sigmoid"])
def test_activations(activation: str) -> None:
    values = torch.linspace(-2, 2, 7).reshape(-1, 1)
    model = build(
        Architecture(1, (DenseLayer(1, activation),), "MSE"),  # type: ignore[arg-type]
        Initializer("Uniform", Uniform(1.0, 1.000001)),
        SEED,
    )
    expected = {
        "Linear": values,
        "ReLU": values.clamp(min=0),
        "LeakyReLU": torch.where(values > 0, values, 0.01 * values),
        "GELU": values * 0.5 * (1 + torch.erf(values / 2**0.5)),
        "Tanh": torch.tanh(values),
        "Sigmoid": 1 / (1 + torch.exp(-values)),
    }
    torch.testing.assert_close(model(values), expected[activation], rtol=1e-4, atol=1e-4)


def test_a_classifier_gives_scores_and_probabilities() -> None:
    model = build(DIGITS, Initializer(), SEED).eval()
    rows = torch.ones(3, 64)
    probabilities = model.probabilities(rows)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(probabilities, torch.softmax(model(rows), dim=1))
    assert not torch.allclose(model(rows).sum(dim=1), torch.ones(3))


def test_parameter_limit() -> None:
    DIGITS.require_parameters(DIGITS.parameters)
    with pytest.raises(TrainingError, match=f"{DIGITS.parameters} parameters, more than this node's limit"):
        DIGITS.require_parameters(DIGITS.parameters - 1)


def test_a_model_comes_back_from_its_file(tmp_path: Path) -> None:
    model = build(DIGITS, Initializer(), SEED)
    save_model(model, tmp_path / "model")
    save_model(model, tmp_path / "again")
    loaded = load_model(tmp_path / "model", DIGITS)
    rows = torch.linspace(0, 1, 128).reshape(2, 64)
    assert torch.equal(loaded(rows), model.eval()(rows))
    assert not loaded.training
    hashes = {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("model", "again")}
    assert len(hashes) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "model"]


def test_a_model_file_describes_itself(tmp_path: Path) -> None:
    save_model(build(DIGITS, Initializer(), SEED), tmp_path / "model")
    assert read_architecture(tmp_path / "model") == DIGITS
    description = load_model(tmp_path / "model").describe()
    assert description["inputs"] == 64
    assert description["outputs"] == 10
    assert description["parameters"] == DIGITS.parameters
    assert list(load_file(tmp_path / "model")) == [
        "layers.0.bias",
        "layers.0.weight",
        "layers.2.bias",
        "layers.2.weight",
    ]


def test_save_to_nowhere(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        save_model(build(DIGITS, Initializer(), SEED), tmp_path / "missing" / "model")


SMALL = Architecture(2, (DenseLayer(3),), "MSE")
TENSORS = {"layers.0.weight": np.ones((3, 2), np.float32), "layers.0.bias": np.ones(3, np.float32)}


def test_the_small_file_that_the_next_tests_break_is_good(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model", {"mlnet": SMALL.to_json()})
    assert load_model(tmp_path / "model", SMALL)(torch.ones(1, 2)).tolist() == [[3.0, 3.0, 3.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers.0.weight": np.ones((2, 3), np.float32)}, "expected F32 .3, 2"),
        ({"layers.0.weight": np.ones((3, 2), np.float64)}, "is F64"),
        ({"layers.1.weight": np.ones((3, 2), np.float32)}, "holds the tensors"),
        ({"layers.0.bias": np.array([1, np.nan, 1], np.float32)}, "not finite"),
        ({"layers.0.bias": np.array([1, np.inf, 1], np.float32)}, "not finite"),
    ],
)
def test_hostile_tensors(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    save_file(TENSORS | change, tmp_path / "model", {"mlnet": SMALL.to_json()})
    with pytest.raises(DataError, match=message):
        load_model(tmp_path / "model", SMALL)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{}",
        "[" * 100_00,
        SMALL.to_json().replace('"MSE"', '"Evil"'),
        SMALL.to_json().replace('"nodes":3', '"nodes":1000000000000'),
        SMALL.to_json().replace('"nodes":3', '"nodes":-3'),
        SMALL.to_json().replace('"format":2', '"format":1'),
        SMALL.to_json().replace('"inputs":2', '"inputs":2,"more":1'),
        '{"inputs":2,"layers":[{"type":"Dropout","rate":0.5}],"loss":"MSE","format":2}',
        '{"inputs":2,"layers":[],"loss":"MSE","format":2}',
    ],
)
def test_hostile_description(tmp_path: Path, text: str | None) -> None:
    save_file(TENSORS, tmp_path / "model", None if text is None else {"mlnet": text})
    with pytest.raises(DataError):
        load_model(tmp_path / "model")


def test_a_description_cannot_ask_for_memory_that_the_file_does_not_hold(tmp_path: Path) -> None:
    large = Architecture(1 << 20, (DenseLayer(1 << 20),), "MSE")
    save_file(TENSORS, tmp_path / "model", {"mlnet": large.to_json()})
    with pytest.raises(DataError, match="expected F32"):
        load_model(tmp_path / "model")


def test_another_model_than_expected(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model", {"mlnet": SMALL.to_json()})
    with pytest.raises(DataError, match="not the one that the task's definition describes"):
        load_model(tmp_path / "model", DIGITS)


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04.", struct.pack("<Q", 1 << 50), save(TENSORS, {"mlnet": SMALL.to_json()})[:-1]]
)
def test_no_model_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(DataError):
        load_model(tmp_path / "model")


def test_metrics_of_a_classifier() -> None:
    model = build(Architecture(2, (DenseLayer(2),), "CrossEntropy"), Initializer("Zeros", Zeros()), SEED)
    total = sums(model, torch.ones(4, 2), torch.tensor([0, 0, 0, 1]))
    found = metrics(total, classifier=True)
    assert found == {"MSE": 0.25, "Accuracy": 0.75, "CrossEntropy": 0.693147}


def test_metrics_of_a_regression() -> None:
    model = build(Architecture(2, (DenseLayer(2),), "MSE"), Initializer("Zeros", Zeros()), SEED)
    total = sums(model, torch.ones(2, 2), torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    assert metrics(total, classifier=False) == {"MSE": 2.5}


def test_metrics_over_batches_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(Architecture(3, (DenseLayer(4),), "CrossEntropy"), Initializer(), SEED)
    rows, labels = torch.linspace(-1, 1, 30).reshape(10, 3), torch.arange(10) % 4
    whole = sums(model, rows, labels)
    monkeypatch.setattr("mlnet.training.evaluation.BATCH_ROWS", 3)
    torch.testing.assert_close(sums(model, rows, labels), whole)
    torch.testing.assert_close(sums(model, rows[:4], labels[:4]) + sums(model, rows[4:], labels[4:]), whole)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e13])
def test_a_diverged_model_is_no_result(value: float) -> None:
    total = no_sums()
    total[0], total[1] = 1, value
    with pytest.raises(TrainingError, match="training diverged"):
        metrics(total, classifier=True)

"""What the author of a task definition is told, by the mistake."""

from __future__ import annotations

from pathlib import Path

from support.definitions import Draft
from support.message_cases import Case, check

from mlnet.task import definition as task_definition
from mlnet.util import yaml_writer

OPTIMIZER = "ml.optimizer.optimizer_initialization_parameters"
UNITS = "ml.model.hidden-units"
SHA = "ml.dataset.sha256"

MISTAKES: dict[str, list[tuple[str, object]]] = {
    "a key with a letter too many": [("verison", 1)],
    "a key that resembles none": [("ml.optimizer.initializer.parameters.zzz", 1)],
    "another version": [("version", 2)],
    "a number where keys belong": [("payment", 100)],
    "a list where keys belong": [("cluster", [1])],
    "a text where a list belongs": [(UNITS, "Dense")],
    "an empty list": [(UNITS, [])],
    "a fraction where a whole number belongs": [("ml.optimizer.epochs", 1.5)],
    "a number in quotes": [("ml.optimizer.epochs", "30")],
    "too small a number": [("ml.optimizer.epochs", 0)],
    "too large a number": [("cluster.max-nodes", 1025)],
    "nothing behind the colon": [("ml.optimizer.epochs", None)],
    "a number that is none": [(f"{OPTIMIZER}.learning_rate", float("nan"))],
    "a number out of range": [(f"{OPTIMIZER}.learning_rate", 0)],
    "a text where a number belongs": [(f"{OPTIMIZER}.learning_rate", "fast")],
    "yes for true": [(f"{OPTIMIZER}.amsgrad", "yes")],
    "a number where text belongs": [("ml.dataset.source.features", 1)],
    "an empty text": [("ml.dataset.source.features", "")],
    "a control character": [("ml.dataset.source.features", "a\x1b[2J")],
    "a payment below zero": [("payment.best-model-payment-amount", -1)],
    "a payment that is no decimal": [("payment.best-model-payment-amount", "1e3")],
    "a payment of true": [("payment.best-model-payment-amount", True)],
    "a payment that binary fractions cannot hold": [("payment.best-model-payment-amount", 1e9)],
    "a waiting period of another form": [("cluster.waiting-period", "15:00")],
    "a waiting period that is too long": [("cluster.waiting-period", "24h1s")],
    "a size without a unit": [("cluster.requirements.memory", 512)],
    "a format in lower case": [("ml.dataset.format", "npz")],
    "a hash that is none": [(SHA, "0" * 63)],
    "a share that is no tenth": [("ml.dataset.training-set-size", 0.85)],
    "a share in quotes": [("ml.dataset.training-set-size", "0.8")],
    "shares that do not sum to 1": [("ml.dataset.test-set-size", 0.3)],
    "a delimiter for NPZ": [("ml.dataset.delimiter", ";")],
    "a header one level down": [("ml.dataset.source.header", True)],
    "labels for a CSV": [("ml.dataset.format", "CSV"), ("ml.dataset.source.labels", "l.csv")],
    "MNIST without labels": [("ml.dataset.format", "MNIST")],
    "a column that is no list": [("ml.dataset.format", "CSV"), ("ml.dataset.category-columns", "sex")],
    "a delimiter of two characters": [("ml.dataset.format", "CSV"), ("ml.dataset.delimiter", ";;")],
    "a label column that is neither name nor number": [
        ("ml.dataset.format", "CSV"),
        ("ml.dataset.label-column", 1.5),
    ],
    "a named label column without a header": [
        ("ml.dataset.format", "CSV"),
        ("ml.dataset.header", False),
        ("ml.dataset.label-column", "kind"),
    ],
    "gradient compression": [("ml.optimizer.tau", 0.001)],
    "an optimizer that there is not": [("ml.optimizer.type", "RMSprop")],
    "another library's name of a parameter": [(f"{OPTIMIZER}.lr", 1)],
    "a parameter of another optimizer": [(f"{OPTIMIZER}.momentum", 0.9)],
    "nesterov without momentum": [
        ("ml.optimizer.type", "SGD"),
        (OPTIMIZER, {"learning_rate": 0.1, "nesterov": True}),
    ],
    "an initializer's bounds the wrong way round": [
        ("ml.optimizer.initializer", {"name": "Uniform", "parameters": {"low": 1, "high": 0}})
    ],
    "a model of another type": [("ml.model.type", "NeuralNetwork")],
    "a layer that is a text": [(f"{UNITS}.1", "Dense")],
    "a layer of another type": [(f"{UNITS}.1.type", "Conv")],
    "an id that is taken": [(f"{UNITS}.1.id", 1)],
    "a rate in a Dense layer": [(f"{UNITS}.1.rate", 0.5)],
    "Softmax in a hidden layer": [(f"{UNITS}.1.activation", "Softmax")],
    "Dropout at the end": [(f"{UNITS}.2", {"id": 3, "type": "Dropout", "rate": 0.5})],
    "a single class": [(f"{UNITS}.2.nodes", 1)],
    "an activation before CrossEntropy": [(f"{UNITS}.2.activation", "ReLU")],
    "a metric twice": [("ml.evaluation-metrics.1", "Accuracy")],
    "Accuracy of a regression": [("ml.model.loss", "MSE"), (f"{UNITS}.2.activation", "Linear")],
    "more nodes at least than at most": [("cluster.min-nodes", 65)],
    "layers with too many parameters": [(f"{UNITS}.0.nodes", 1_048_576), (f"{UNITS}.1.nodes", 1_048_576)],
}
MISSING = ("version", "ml.dataset.source", f"{UNITS}.0.type")


def changed(changes: list[tuple[str, object]]) -> Case:
    def case(_: Path) -> object:
        draft = Draft.example()
        for path, value in changes:
            draft.set(path, value)
        return draft.read()

    return case


def without(path: str) -> Case:
    return lambda _: Draft.example().drop(path).read()


def test_mistakes(tmp_path: Path) -> None:
    cases = {title: changed(changes) for title, changes in MISTAKES.items()}
    check("definitions", cases | {f"{path} is missing": without(path) for path in MISSING}, tmp_path)


TEXTS = {
    "nothing": "",
    "two documents": "version: 1\n---\nversion: 2\n",
    "a directive": "%TAG ! tag:x\n--- 1\n",
    "an anchor": "a: &x 1\n",
    "an alias": "a: *x\n",
    "a tag": "a: !!int 1\n",
    "a list as a key": "[1]: 2\n",
    "half of a surrogate pair": 'a: "\\ud800"\n',
    "a key twice": "a: 1\na: 2\n",
    "a merge key": "<<: {a: 1}\n",
    "a number as a key": "1: 2\n",
    "a number of 65 bits": "a: 18446744073709551616\n",
    "a number beyond any range": "a: 1e999\n",
    "a number without an end": f"a: {'1' * 400}\n",
    "infinity": "a: .inf\n",
    "a tab for an indentation": "a:\n\tb: 1\n",
    "a control character": "a: \x07\n",
    "a bracket that is not closed": "a: [1\n",
    "too many keys": "- 1\n" * 200_000,
    "too deep": "[" * 200,
}


def test_texts(tmp_path: Path) -> None:
    def text(content: str) -> Case:
        return lambda _: task_definition.load(content)

    check("yaml", {title: text(content) for title, content in TEXTS.items()}, tmp_path)


def test_files(tmp_path: Path) -> None:
    def file(content: bytes) -> Case:
        def case(directory: Path) -> object:
            (directory / "task.yaml").write_bytes(content)
            return task_definition.load_file(directory / "task.yaml")

        return case

    check(
        "definition-files",
        {
            "no such file": lambda directory: task_definition.load_file(directory / "task.yaml"),
            "a file that is too long": file(b"#" * 10_000_000),
            "a file in Latin-1": file(b"# \xe4\nversion: 1\n"),
        },
        tmp_path,
    )


def test_warnings(tmp_path: Path) -> None:
    def warned(*changes: tuple[str, object], drop: str = "") -> Case:
        def case(_: Path) -> str:
            draft = Draft.example()
            for path, value in changes:
                draft.set(path, value)
            if drop:
                draft.drop(drop)
            return "\n".join(task_definition.warnings(draft.read()))

        return case

    check(
        "definition-warnings",
        {
            "no hash of the dataset": warned(drop=SHA),
            "nothing is paid": warned(("payment.best-model-payment-amount", 0)),
            "all weights zero": warned(("ml.optimizer.initializer", {"name": "Zeros"})),
            "a committee that no vote makes smaller": warned(
                ("cluster.min-committee-size", 4), ("cluster.max-committee-size", 5), ("cluster.min-nodes", 5)
            ),
        },
        tmp_path,
    )


def test_what_yaml_has_no_form_for(tmp_path: Path) -> None:
    check(
        "yaml-dump",
        {
            "a value of another type": lambda _: yaml_writer.dump_block({"a": object()}),
            "a key that is no text": lambda _: yaml_writer.dump_block({1: "a"}),
        },
        tmp_path,
    )

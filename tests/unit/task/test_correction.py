"""A definition is corrected in one round: what is told of each mistake, and which ones are mended."""

from __future__ import annotations

import pytest
from support.definitions import EXAMPLE

from mlnet.errors import TaskError, TaskProblem
from mlnet.task import definition as task_definition
from mlnet.task import diagnosis, spellings

GOOD = EXAMPLE.read_text()
PARAMETERS = "ml.optimizer.optimizer_initialization_parameters"


def changed(*changes: tuple[str, str]) -> str:
    text = GOOD
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    return text


def errors(text: str) -> tuple[TaskProblem, ...]:
    with pytest.raises(TaskError) as caught:
        task_definition.load(text)
    return caught.value.errors


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


# Each mistake in the example, words of the message, and whether correcting it restores the example.
MISTAKES: dict[str, tuple[tuple[str, str], str]] = {
    "a tab": (("    epochs: 12", "\tepochs: 12"), "a tab in the indentation"),
    "a no-break space": (("epochs: 12", "epochs:\u00a0 12"), "no-break space (U+00A0)"),
    "no-break spaces in front": (("    epochs", "\u00a0\u00a0\u00a0\u00a0epochs"), "no-break space"),
    "a no-break space before a comment": (("epochs: 12", "epochs: 12\u00a0# so many"), "no-break space"),
    "a space without width": (("epochs: 12", "\u200bepochs: 12"), "zero width space (U+200B)"),
    "a wide colon": (("epochs: 12", "epochs\uff1a12"), "no colon and space after epochs"),
    "no space after the colon": (("epochs: 12", "epochs:12"), "no colon and space after epochs"),
    "an equals sign": (("epochs: 12", "epochs = 12"), "no colon and space after epochs"),
    "no colon": (("epochs: 12", "epochs 12"), "no colon after epochs"),
    "no colon after a section": (("  optimizer:", "  optimizer"), "no colon after optimizer"),
    "no space after the dash": (("- CrossEntropy", "-CrossEntropy"), "no space between the dash"),
    "curly quotes": (("mlnet/examples/digits.npz", "“mlnet/examples/digits.npz”"), "quotation marks"),
    "a column too far right": (("    epochs: 12", "     epochs: 12"), "starts in column 6"),
    "a column too far left": (("        nodes: 64", "       nodes: 64"), "starts in column 8"),
    "Markdown": (("version: 1", "```yaml\nversion: 1"), "a Markdown code fence"),
    "a key twice": (("    epochs: 12", "    epochs: 12\n    epochs: 12"), "appears twice, first on line"),
    "another case": (("payment:", "Payment:"), "write payment"),
    "underscores": (("batch-size", "batch_size"), "write batch-size"),
    "a slip": (("payment:", "paymnet:"), "write payment"),
    "another library's key": (("learning_rate", "lr"), "write learning_rate"),
    "another library's loss": (("loss: CrossEntropy", "loss: cross_entropy_loss"), "write CrossEntropy"),
    "another library's activation": (("activation: ReLU", "activation: relu"), "write ReLU"),
    "a number in quotes": (("epochs: 12", 'epochs: "12"'), "write 12"),
    "a point": (("epochs: 12", "epochs: 12.0"), "write 12"),
    "a decimal comma": (("test-set-size: 0.2", "test-set-size: 0,2"), "write 0.2"),
    "per cent": (("size: 0.1 #", "size: 10 % #"), "write 0.1"),
    "a word of YAML 1.1": (("sealed-votes: true", "sealed-votes: yes"), "write true"),
    "a unit in words": (("waiting-period: 15m", "waiting-period: 15 minutes"), "write 15m"),
    "a unit in lower case": (("512MiB", "512mib"), "write 512MiB"),
    "compression": (("    epochs: 12", "    tau: 12.0\n    epochs: 12"), "exchanged whole"),
    "no version": (("version: 1\n", ""), "add version: 1"),
    "no type": (("    type: MLP\n", ""), "add type: MLP"),
    "a Dense layer in brackets": (
        (
            "- id: 2\n        type: Dense\n        nodes: 64\n        activation: ReLU",
            "- {id: 2, type: dense, units: 64, activation: ReLU}",
        ),
        "write nodes",
    ),
    "a zero at the end": (("cpus: 1\n", "cpus: 1\n\0\0"), "U+0000"),
    "an input layer": (
        ("      - id: 1\n", "      - type: Input\n        shape: [64]\n      - id: 1\n"),
        "the dataset determines the number of inputs",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_mistake_with_one_correction_only_is_mended(name: str, newline: str) -> None:
    change, words = MISTAKES[name]
    text = changed(change).replace("\n", newline)

    found = errors(text)
    assert words in "; ".join(map(str, found))
    assert all(error.certain and error.line for error in found)
    mended = diagnosis.mend(text)
    assert mended.left == ()
    assert task_definition.load(mended.text) == task_definition.load(GOOD)
    assert mended.text.count("#") >= GOOD.count("#")
    assert mended.text.count(newline) == mended.text.count("\n")


UNCERTAIN: dict[str, tuple[tuple[str, str], str, str]] = {
    "another value twice": (
        ("    epochs: 12", "    epochs: 12\n    epochs: 13"),
        "ml.optimizer.epochs",
        "twice",
    ),
    "an open quote": (
        ("features: mlnet", 'features: "mlnet'),
        "",
        "a quote that opens on this line is not closed",
    ),
    "an open bracket": (("    - Accuracy", "    - [Accuracy"), "", "a bracket that opens on this line"),
    "two colons": (("features: mlnet", "features: a: b"), "", "a second key in one line"),
    "a placeholder": (
        ("epochs: 12", "epochs: {{ epochs }}"),
        "",
        "is this a placeholder that was not filled in? Write the value instead",
    ),
    "a conflict": (("    epochs: 12", "<<<<<<< HEAD\n    epochs: 12"), "", "a merge conflict marker"),
    "an anchor": (("epochs: 12", "epochs: &e 12"), "ml.optimizer.epochs", "write the value out"),
    "another optimizer": (("type: Adam", "type: Nadam"), "ml.optimizer.type", "did you mean Adam?"),
    "a thousand, or one": (("epochs: 12", "epochs: 1,000"), "ml.optimizer.epochs", '"1,000"'),
    "megabytes, or mebibytes": (("512MiB", "512M"), "cluster.requirements.memory", "512MiB or 2GB"),
    "a duration without unit": (("15m", "900"), "cluster.waiting-period", "such as 90s"),
    "a share that is none": (
        ("training-set-size: 0.8", "training-set-size: 0.857"),
        "ml.dataset.training-set-size",
        "the nearest is 0.9",
    ),
    "another place": (("  model:\n", "  epochs: 3\n  model:\n"), "ml.epochs", "it belongs in ml.optimizer"),
    "no value": (("epochs: 12", "epochs:"), "ml.optimizer.epochs", "found nothing"),
}


@pytest.mark.parametrize("name", UNCERTAIN)
def test_a_mistake_that_only_its_author_can_correct_is_left(name: str) -> None:
    change, path, words = UNCERTAIN[name]
    text = changed(change)

    (error,) = [error for error in errors(text) if words in str(error)]
    assert (error.path, error.certain) == (path, False)
    assert error.line
    assert diagnosis.mend(text).text == text


def test_a_definition_of_the_earlier_network_is_understood_but_for_its_shares() -> None:
    text = changed(
        ("version: 1", "version:  0.1"),
        ("training-set-size: 0.8", "training-set-size: 0.85714285715"),
        ("test-set-size: 0.2", "test-set-size: 0.14285714286"),
        ("    epochs: 12", "    tau: 12.0\n    epochs: 12"),
        ("name: Kaiming", "name: Xavier"),
        ("        mode: fan_in\n        nonlinearity: relu", "        magnitude: 2.24"),
        ("type: MLP", "type: FC-DNN"),
        ("hidden-units", "layers"),
        ("activation: ReLU", "activation: relu"),
        ("loss: CrossEntropy", "loss: SoftmaxCrossEntropyLoss"),
    )

    found = {error.path: error for error in errors(text)}
    assert list(found) == [
        "version",
        "ml.dataset.training-set-size",
        "ml.dataset.test-set-size",
        "ml.optimizer.tau",
        "ml.optimizer.initializer.parameters.magnitude",
        "ml.model.type",
        "ml.model.layers",
        "ml.model.layers[0].activation",
        "ml.model.loss",
    ]
    assert found["ml.model.loss"].line == line_of(text, "loss: Soft")
    mended = diagnosis.mend(text)
    assert [error.path for error in mended.left] == [
        "ml.dataset.training-set-size",
        "ml.dataset.test-set-size",
    ]
    by_hand = mended.text.replace("0.85714285715", "0.9").replace("0.14285714286", "0.1")
    initializer = task_definition.load(by_hand).ml.optimizer.initializer
    # MXNet draws from +-sqrt(2 * magnitude / (fan_in + fan_out)), Xavier here from +-gain * sqrt(6 / ...).
    assert getattr(initializer.parameters, "gain", 0) ** 2 * 6 == pytest.approx(2 * 2.24)


def test_what_goes_together_is_compared_in_the_same_round_where_it_is_known() -> None:
    text = changed(
        ("min-nodes: 2", 'min-nodes: "70"'),
        ("min-committee-size: 2", "min-committee-size: many"),
        ("loss: CrossEntropy", "loss: mse"),
        ("activation: Softmax", "activation: ReLU"),
    )

    assert {error.path: error.problem for error in errors(text)} == {
        "ml.model.loss": 'found the text "mse"',
        "ml.evaluation-metrics[0]": "Accuracy needs the loss CrossEntropy, not MSE",
        "ml.evaluation-metrics[1]": "CrossEntropy needs the loss CrossEntropy, not MSE",
        "cluster.min-nodes": 'found the text "70"',
        "cluster.max-nodes": "64 is less than min-nodes, 70",
        "cluster.min-committee-size": 'found the text "many"',
    }


def test_errors_behind_a_line_that_is_no_yaml_are_told_too() -> None:
    text = changed(("    epochs: 12", '    epochs: "12'), ("activation: ReLU", "activation: RelU6"))

    assert [error.path for error in errors(text)] == ["", "ml.model.hidden-units[0].activation"]


def test_a_definition_that_is_one_stays_as_it_is() -> None:
    text = GOOD.replace("epochs: 12", "epochs: 12 \u00a0")
    for valid in (GOOD, "\ufeff" + GOOD, GOOD.replace("\n", "\r\n")):
        assert diagnosis.mend(valid).text == valid.removeprefix("\ufeff")
    assert diagnosis.mend(text).mended


@pytest.mark.parametrize("share", ["0.19999999999999996", "0.20000000298023224"])
def test_a_share_is_what_its_author_computed_in_binary(share: str) -> None:
    assert task_definition.load(
        changed(("test-set-size: 0.2", f"test-set-size: {share}"))
    ) == task_definition.load(GOOD)


@pytest.mark.parametrize("key", ["ignore-columns", "category-columns"])
@pytest.mark.parametrize("column", ["sex", "3"])
def test_a_column_alone_is_a_list_of_one(key: str, column: str) -> None:
    mended = diagnosis.mend(changed(("format: NPZ", f"format: CSV\n    {key}: {column}")))
    assert mended.left == ()
    assert f"{key}: [{column}]" in mended.text


def test_a_payment_is_what_its_author_computed_in_binary() -> None:
    text = changed(("amount: 100", f"amount: {0.1 + 0.2!r}"))
    assert task_definition.load(text).payment_micro == 300_000


def test_a_windows_path_in_double_quotes() -> None:
    for path in (r"C:\data\digits.npz", r"C:\new\table.npz", r"\\server\share\digits.npz"):
        text = changed(("features: mlnet/examples/digits.npz", f'features: "{path}"'))
        (error,) = errors(text)
        assert "a backslash begins an escape" in error.problem
        assert task_definition.load(diagnosis.mend(text).text).ml.dataset.source.features == path


def test_a_hostile_definition_gets_one_cheap_error_and_its_author_a_hundred() -> None:
    text = "".join(f"{'k' * 40}{number}: 1\n" for number in range(1200))
    assert len(errors(text)) == 100
    with pytest.raises(TaskError) as caught:
        task_definition.load(text, diagnose=False)
    assert len(caught.value.errors) == 1


def test_plain_values_are_not_changed_by_reading_them() -> None:
    plain = {
        "ml": {"optimizer": {"type": "Adam", "optimizer_initialization_parameters": {"betas": [0.9, 0.99]}}}
    }
    with pytest.raises(TaskError) as caught:
        task_definition.from_plain(plain)
    assert plain["ml"]["optimizer"]["optimizer_initialization_parameters"] == {"betas": [0.9, 0.99]}
    assert all(error.line == 0 for error in caught.value.errors)
    assert f"{PARAMETERS}.betas" in [error.path for error in caught.value.errors]


@pytest.mark.parametrize(
    ("text", "number"),
    [("1_000", 1000), ("1e3", 1000), ("0,5", 0.5), ("20%", 0.2), ("\u22120.5", -0.5), ("5,", 5),
     ("1,000", None), ("", None), ("-", None), ("1e999999", None), ("nan", None), ("5 apples", None)],
)  # fmt: skip
def test_numbers_as_people_write_them(text: str, number: float | None) -> None:
    assert spellings.number(text) == number


@pytest.mark.parametrize(
    ("text", "duration"),
    [("1 hour", "1h"), ("1.5h", "1h30m"), ("2 d", "48h"), ("90 sec", "1m30s"), ("0.5s", "500ms"),
     ("15:00", None), ("0 min", None), ("5 parsecs", None)],
)  # fmt: skip
def test_durations_as_people_write_them(text: str, duration: str | None) -> None:
    assert spellings.duration(text) == duration


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2gb", "2GB"),
        ("1.5GiB", "1536MiB"),
        ("512Mi", "512MiB"),
        ("100 bytes", "100B"),
        ("512M", None),
        ("0.3B", None),
    ],
)
def test_sizes_as_people_write_them(text: str, size: str | None) -> None:
    assert spellings.size(text) == size

"""Mistakes planted into a valid definition are told all at once, and mended where that is certain."""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.definitions import EXAMPLE

from mlnet.errors import TaskError
from mlnet.task import definition as task_definition
from mlnet.task import diagnosis

GOOD = EXAMPLE.read_text()
UNIT = "ml.model.hidden-units"

# Independent of each other: what to replace on a line of its own, and the path that has to be told.
MISTAKES = [
    ("version: 1", "version: 2", "version"),
    ("amount: 100", "amount: lots", "payment.best-model-payment-amount"),
    ("format: NPZ", "format: HDF5", "ml.dataset.format"),
    ("training-set-size: 0.8", "training-set-size: 0.77", "ml.dataset.training-set-size"),
    ("      size: 0.1", "      size: 7", "ml.validation.strategy.size"),
    ("method: Holdout", "method: KFold", "ml.validation.strategy.method"),
    ("type: Adam", "type: RMSprop", "ml.optimizer.type"),
    (
        "learning_rate: 3e-3",
        "learning_rate: -1",
        "ml.optimizer.optimizer_initialization_parameters.learning_rate",
    ),
    ("epochs: 12", "epochs: 0", "ml.optimizer.epochs"),
    ("batch-size: 64", "batch-size: [64]", "ml.optimizer.batch-size"),
    ("name: Kaiming", "name: Orthogonal", "ml.optimizer.initializer.name"),
    ("mode: fan_in", "mode: fan_avg", "ml.optimizer.initializer.parameters.mode"),
    ("type: MLP", "type: CNN", "ml.model.type"),
    ("nodes: 128", "nodes: 0.5", f"{UNIT}[0].nodes"),
    ("nodes: 64", "nodes: &a 64", f"{UNIT}[1].nodes"),
    ("id: 2", "id: 1.5", f"{UNIT}[1].id"),
    ("id: 3\n        type: Dense", "id: 3\n        type: Conv2d", f"{UNIT}[2].type"),
    ("loss: CrossEntropy", "loss: Hinge", "ml.model.loss"),
    ("    - Accuracy", "    - F1", "ml.evaluation-metrics[0]"),
    ("waiting-period: 15m", "waiting-period: soon", "cluster.waiting-period"),
    ("max-nodes: 64", "max-nodes: 6400", "cluster.max-nodes"),
    ("sealed-votes: true", "sealed-votes: 3", "cluster.sealed-votes"),
    ("cpus: 1", "gpus: 1", "cluster.requirements.gpus"),
]
FIXABLE = [
    ("version: 1", "version: 0.1"),
    ("payment:", "Payment :"),
    ("amount: 100", 'amount: "1e2"'),
    ("format: NPZ", "format: npz"),
    ("test-set-size: 0.2", "test-set-size: 20%"),
    ("method: Holdout", "METHOD: hold-out"),
    ("type: Adam", "type: ADAM"),
    ("learning_rate: 3e-3", "lr: '3e-3'"),
    ("epochs: 12", "epocs = 12.0"),
    ("epochs: 12", "epochs:12"),
    ("    batch-size: 64", "\tbatch_size: 64"),
    ("    batch-size: 64", "     batch-size: 64"),
    ("batch-size: 64", "batch-size:\u00a064"),
    ("mode: fan_in", "mode: FanIn"),
    ("type: MLP", "type: FC-DNN"),
    ("hidden-units", "layers"),
    ("nodes: 128", "units: 128"),
    ("activation: ReLU", "activation: relu"),
    ("loss: CrossEntropy", "loss: SoftmaxCrossEntropyLoss"),
    ("    - Accuracy", "    - acc"),
    ("waiting-period: 15m", "waiting-period: 0.25 hours"),
    ("sealed-votes: true", "sealed-votes: on"),
    ("memory: 512MiB", "ram: 0.5 gib"),
    ("mlnet/examples/digits.npz", "“mlnet/examples/digits.npz”"),
]


@given(st.sets(st.sampled_from(MISTAKES), min_size=1))
@settings(deadline=None, max_examples=40)
def test_all_mistakes_are_told_in_one_round_with_their_lines(mistakes: set[tuple[str, str, str]]) -> None:
    text = GOOD
    for old, new, _ in mistakes:
        text = text.replace(old, new, 1)
    try:
        task_definition.load(text)
    except TaskError as error:
        found = {one.path: one for one in error.errors}
    else:
        raise AssertionError("accepted")
    assert set(found) == {path for _, _, path in mistakes}
    lines = text.splitlines()
    for _, new, path in mistakes:
        assert new.splitlines()[-1].strip() in lines[found[path].line - 1]
        assert found[path].fix


@given(st.sets(st.sampled_from(FIXABLE), min_size=1), st.sampled_from(["\n", "\r\n"]))
@settings(deadline=None, max_examples=40)
def test_mended_once_a_definition_means_what_was_meant(mistakes: set[tuple[str, str]], newline: str) -> None:
    text = GOOD
    for old, new in sorted(mistakes):
        text = text.replace(old, new, 1)
    mended = diagnosis.mend(text.replace("\n", newline))

    assert mended.left == ()
    assert task_definition.load(mended.text) == task_definition.load(GOOD)
    assert diagnosis.mend(mended.text).text == mended.text
    comments = [line.partition("#")[2] for line in GOOD.splitlines()]
    assert [line.partition("#")[2] for line in mended.text.splitlines()] == comments


PIECES = [
    "\t",
    " ",
    "  ",
    ":",
    ": ",
    "- ",
    "#",
    '"',
    "'",
    "[",
    "]",
    "{",
    "}",
    "\n",
    "\r",
    "\xa0",
    "\u200b",
    "&a",
    "*a",
    "!t",
    "---",
    "<<: ",
    "\\",
    "\x00",
    "\x85",
    "%",
    "@",
    "“",
    "=",
    "relu",
    "1e999",
    "😀",
    "betas: [1, 2]",
    "tau: 1",
    "magnitude: 2.24",
    "version",
    "type: Input",
    "```",
]


@example([(3669, 1, "- "), (0, 0, "\r")])
@given(
    st.lists(
        st.tuples(st.integers(0, len(GOOD)), st.integers(0, 40), st.sampled_from(PIECES)),
        min_size=1,
        max_size=6,
    )
)
@settings(deadline=None, max_examples=100)
def test_whatever_is_broken_ends_in_words_and_mending_it_twice_changes_nothing(
    cuts: list[tuple[int, int, str]],
) -> None:
    text = GOOD
    for place, length, piece in cuts:
        text = text[:place] + piece + text[place + length :]
    mended = diagnosis.mend(text)
    again = diagnosis.mend(mended.text)

    assert again.text == mended.text
    assert all(one.problem and one.line <= len(LINE_BREAK.split(mended.text)) for one in mended.left)
    assert is_definition(mended.text) == (mended.left == ())


LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
"""What the parser counts as one: more than an editor may."""


def is_definition(text: str) -> bool:
    try:
        task_definition.load(text, diagnose=False)
    except TaskError:
        return False
    return True

"""What a newcomer adds is a file and an entry of a list: a format, a layer, a scheme of links, a command; and
what tools may call comes from outside.

Each is added, for a dummy, to a copy of the package; a process with that copy then uses all of them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import mlnet
from mlnet.data.formats import ARRAYS
from mlnet.task.schema import Format

PACKAGE = Path(mlnet.__file__).parent

FORMAT = '''
"""Rows of whitespace and numbers; the last is the label."""

import numpy as np

KIND = None
LABELS_APART = False


def is_one(path):
    return path.suffix == ".rows"


def holds_labels(path):
    return False


def read(path, part, limits, *, alone):
    table = np.loadtxt(path, dtype=np.float32, ndmin=2)
    return table[:, :-1] if part == "features" else table[:, -1].astype(np.int64)
'''
LAYER = '''
"""``type: Norm``: a row less its mean."""

from __future__ import annotations

from typing import ClassVar

from mlnet.task.layers.base import Layer, Unit


class NormLayer(Layer, frozen=True, tag="Norm"):
    def shapes(self, before):
        yield "weight", (before,)
        yield "bias", (before,)

    def modules(self, nn, before, device, *, scores):
        yield "", nn.LayerNorm(before, device=device)


class Norm(Unit, frozen=True, tag="Norm"):
    KEYS: ClassVar = ("id", "type")

    @classmethod
    def read(cls, section, name, *, last):
        return cls(name)

    def check_output(self, problems, path, loss):
        problems.add(path, "the last layer is Norm", "end with a Dense layer")

    @property
    def layer(self):
        return NormLayer()

    @property
    def summary(self):
        return "norm"
'''
SCHEME = '''
"""``text:CONTENT``: the link is the content."""


async def fetch(transfer):
    transfer.sink(transfer.link.partition(":")[2].encode())
'''
COMMAND = '''
"""``mlnet-node hello``."""

SHORT_HELP = "Say hello."


def command(name: str = "world") -> None:
    """Say hello to somebody."""
    print(f"hello {name}")
'''
NEW = {
    "data/formats/rows.py": FORMAT,
    "task/layers/norm.py": LAYER,
    "data/schemes/text.py": SCHEME,
    "cli/commands/hello.py": COMMAND,
}
# The file with the list, a line of it, and what stands in its place.
ENTRIES = [
    ("data/formats/__init__.py", "import idx, npz\n", "import idx, npz, rows\n"),
    ("data/formats/__init__.py", '    "NPZ": npz,\n', '    "NPZ": npz,\n    "ROWS": rows,\n'),
    ("task/schema.py", '"CSV", "NPZ"]\n', '"CSV", "NPZ", "ROWS"]\n'),
    (
        "task/layers/__init__.py",
        "import Dense, DenseLayer\n",
        "import Dense, DenseLayer\nfrom mlnet.task.layers.norm import Norm, NormLayer\n",
    ),
    ("task/layers/__init__.py", "    Dense: DenseLayer,\n", "    Dense: DenseLayer,\n    Norm: NormLayer,\n"),
    ("data/schemes/__init__.py", "import file, member, web\n", "import file, member, text, web\n"),
    ("data/schemes/__init__.py", '    "mlnet": member', '    "text": text.fetch,\n    "mlnet": member'),
    ("cli/commands/__init__.py", '    "start",\n', '    "start",\n    "hello",\n'),
]
DEFINITION = """
version: 1
payment: {best-model-payment-amount: 0}
ml:
  dataset:
    format: ROWS
    training-set-size: 0.8
    test-set-size: 0.2
    source: {features: table.rows}
  validation: {strategy: {method: Holdout, size: 0.2}}
  optimizer:
    type: SGD
    optimizer_initialization_parameters: {learning_rate: 0.1}
    epochs: 1
    batch-size: 4
    initializer: {name: Xavier}
  model:
    type: MLP
    hidden-units:
      - {id: 1, type: Norm}
      - {id: 2, type: Dense, nodes: 2, activation: Linear}
    loss: CrossEntropy
  evaluation-metrics: [Accuracy]
cluster: {waiting-period: 10s}
"""
USE = """
import asyncio, hashlib, sys
from pathlib import Path

import torch

from mlnet.data import LinkPolicy, fetch, split
from mlnet.task import definition as task_definition
from mlnet.task.schema import Initializer
from mlnet.training.architecture import of_definition
from mlnet.training.model import build, load_model, save_model
from mlnet.training.predict import predict

here = Path(sys.argv[1])
(here / "table.rows").write_text("".join(f"{i} {i * i} {i % 2}\\n" for i in range(40)))
definition = task_definition.load_file(here / "task.yaml")
dataset = split(definition, here, here)
assert (dataset.inputs, dataset.rows) == (2, 40)
made = of_definition(definition, dataset.inputs)
assert made.parameters == definition.ml.model.parameter_count(2) == 4 + 6
model = build(made, Initializer(), bytes(32))
save_model(model, here / "model.safetensors")
loaded = load_model(here / "model.safetensors", made)
row = torch.tensor([[1.0, 2.0]])
assert torch.equal(loaded(row), model.eval()(row))
assert len(predict(here / "model.safetensors", here / "table.rows").classes) == 40

content = b"abc"
link = asyncio.run(fetch(
    "text:abc", digest=hashlib.sha256(content).hexdigest(), size=3, destination=here / "fetched",
    policy=LinkPolicy(), algorithm="sha256",
))
assert link.read_bytes() == content
print("all used")
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with all the dummies."""
    base = tmp_path_factory.mktemp("extended")
    shutil.copytree(PACKAGE, base / "mlnet", ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in NEW.items():
        assert not (base / "mlnet" / path).exists()
        (base / "mlnet" / path).write_text(text)
    for path, line, instead in ENTRIES:
        listed = base / "mlnet" / path
        assert listed.read_text().count(line) == 1, (path, line)
        listed.write_text(listed.read_text().replace(line, instead))
    return base


def run(extended: Path, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, *arguments],
        env={"PYTHONPATH": str(extended), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        cwd=extended,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_a_format_a_layer_and_a_scheme_are_a_file_and_an_entry(extended: Path, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(DEFINITION)
    assert run(extended, "-c", USE, str(tmp_path)) == "all used\n"


def test_a_command_is_a_file_and_its_name(extended: Path) -> None:
    assert "hello Say hello." in " ".join(run(extended, "-m", "mlnet", "--help").split())
    assert run(extended, "-m", "mlnet", "hello", "--name", "you") == "hello you\n"


def test_the_schema_names_the_formats_that_there_are() -> None:
    assert {*ARRAYS, "CSV"} == set(get_args(Format))

"""Writes ``docs/task-definition.md``: ``python docs/generate.py``.

Nothing in the tables is written by hand. What a key takes is what the parser answers to a value that no key
takes, its default is what the parser puts where the key is missing, and its meaning is the docstring of the
schema.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from mlnet.errors import TaskError
from mlnet.task import layers, parser, schema
from mlnet.task.keys import CSV_KEYS
from mlnet.util import yaml12

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "task-definition.md"
EXAMPLE = ROOT / "client-task-definition.yaml"

Plain = dict[str, Any]
Place = tuple[str | int, ...]

NO_VALUE = {"?": 0}
"""A mapping with an unknown key, where a value is expected."""
TOO_LONG = "x" * 5000
TOO_MANY = list(range(5000))

INTRODUCTION = """\
# Task definition

<!-- Written by docs/generate.py from mlnet/task. Do not edit it: change the schema, run the script. -->

A task definition is one YAML 1.2 file of at most {kib} KiB. It says what to train, on what, how, and what
for. Paths in it are relative to the file. `mlnet-node validate FILE` checks it and its dataset without a
network, and `mlnet-node validate --fix FILE` makes the corrections that are certain.

Every key is honoured or refused. A key that is unknown, of a wrong type or out of bounds is an error. All
errors are reported at once, each with its line, its path, the value found and the value to write.

Scalars follow the YAML 1.2 core schema: `no` is a text, `1e-3` is a number. Intervals are written as in
mathematics: (0, 1] excludes 0 and includes 1. "{required}" marks a key that has no default. A dash is a
default that the meaning explains.
"""


class Table(NamedTuple):
    """One table of keys.

    Attributes:
        title: of the table.
        path: of the mapping that holds the keys, as in error messages.
        place: of the same mapping in the plain values of ``base``.
        kind: its struct.
        base: changes of the example, by dotted path, with which the mapping has this struct.
        keys: those of the struct that the table shows; empty for all.
    """

    title: str
    path: str
    place: Place
    kind: type[msgspec.Struct]
    base: Mapping[str, object] = {}
    keys: tuple[str, ...] = ()


CSV = {"ml.dataset.format": "CSV", "ml.dataset.sha256": None}
PARAMETERS = "optimizer_initialization_parameters"
GENERAL = tuple(
    field.encode_name
    for field in msgspec.structs.fields(schema.DatasetSpec)
    if field.encode_name not in CSV_KEYS
)


def _optimizer(name: str, kind: type[msgspec.Struct]) -> Table:
    place = ("ml", "optimizer", PARAMETERS)
    base = {"ml.optimizer.type": name, f"ml.optimizer.{PARAMETERS}": {"learning_rate": 0.1}}
    return Table(f"Parameters of {name}", ".".join(place), place, kind, base)


def _initializer(name: str, kind: type[msgspec.Struct]) -> Table:
    place = ("ml", "optimizer", "initializer", "parameters")
    base = {"ml.optimizer.initializer": {"name": name, "parameters": {}}}
    return Table(f"Parameters of {name}", ".".join(place), place, kind, base)


def _layer(index: int, name: str, kind: type[msgspec.Struct], layer: Plain) -> Table:
    last = {"id": "out", "type": "Dense", "nodes": 10, "activation": "Softmax"}
    base = {"ml.model.hidden-units": [layer, last]}
    place = ("ml", "model", "hidden-units", index)
    return Table(f"A layer of type {name}", f"ml.model.hidden-units[{index}]", place, kind, base)


TABLES = (
    Table("The file", "", (), schema.TaskDefinition),
    Table("payment", "payment", ("payment",), schema.Payment),
    Table("ml", "ml", ("ml",), schema.Ml),
    Table("ml.dataset", "ml.dataset", ("ml", "dataset"), schema.DatasetSpec, keys=GENERAL),
    Table("ml.dataset, of CSV only", "ml.dataset", ("ml", "dataset"), schema.DatasetSpec, CSV, CSV_KEYS),
    Table("ml.dataset.source", "ml.dataset.source", ("ml", "dataset", "source"), schema.SourceSpec),
    Table("ml.validation", "ml.validation", ("ml", "validation"), schema.Validation),
    Table(
        "ml.validation.strategy", "ml.validation.strategy", ("ml", "validation", "strategy"), schema.Strategy
    ),
    Table("ml.optimizer", "ml.optimizer", ("ml", "optimizer"), schema.OptimizerSpec),
    _optimizer("SGD", schema.SgdParameters),
    _optimizer("Adam", schema.AdamParameters),
    _optimizer("AdamW", schema.AdamParameters),
    Table(
        "ml.optimizer.initializer",
        "ml.optimizer.initializer",
        ("ml", "optimizer", "initializer"),
        schema.Initializer,
    ),
    _initializer("Xavier", schema.Xavier),
    _initializer("Kaiming", schema.Kaiming),
    _initializer("Normal", schema.Normal),
    _initializer("Uniform", schema.Uniform),
    Table("ml.model", "ml.model", ("ml", "model"), schema.ModelSpec),
    _layer(0, "Dense", layers.Dense, {"id": 1, "type": "Dense", "nodes": 8, "activation": "ReLU"}),
    _layer(0, "Dropout", layers.Dropout, {"id": 1, "type": "Dropout", "rate": 0.5}),
    Table("cluster", "cluster", ("cluster",), schema.ClusterSpec),
    Table("cluster.requirements", "cluster.requirements", ("cluster", "requirements"), schema.Requirements),
)

RULES: tuple[tuple[str, Mapping[str, object]], ...] = (
    ("The two sizes of `ml.dataset` sum to 1.", {"ml.dataset.test-set-size": 0.3}),
    ("MNIST has a second file, `ml.dataset.source.labels`.", {"ml.dataset.format": "MNIST"}),
    ("A CSV is one file.", {**CSV, "ml.dataset.source.labels": "labels.csv"}),
    ("The keys of CSV are for CSV.", {"ml.dataset.delimiter": ";"}),
    (
        "A `label-column` that is a name needs a header.",
        {**CSV, "ml.dataset.header": False, "ml.dataset.label-column": "kind"},
    ),
    (
        "`nesterov` needs a momentum and no dampening.",
        {
            "ml.optimizer.type": "SGD",
            f"ml.optimizer.{PARAMETERS}": {"learning_rate": 0.1, "nesterov": True},
        },
    ),
    (
        "`low` of Uniform is below `high`.",
        {"ml.optimizer.initializer": {"name": "Uniform", "parameters": {"low": 1, "high": 0}}},
    ),
    ("The ids of layers differ.", {"ml.model.hidden-units.1.id": 1}),
    ("Softmax is for the last layer.", {"ml.model.hidden-units.0.activation": "Softmax"}),
    ("The last layer is Dense.", {"ml.model.hidden-units.2": {"id": 3, "type": "Dropout", "rate": 0.5}}),
    ("CrossEntropy needs at least two outputs.", {"ml.model.hidden-units.2.nodes": 1}),
    (
        "The last activation that goes with CrossEntropy is Softmax or Linear.",
        {"ml.model.hidden-units.2.activation": "ReLU"},
    ),
    (
        "Accuracy and CrossEntropy are metrics of a classifier.",
        {"ml.model.loss": "MSE", "ml.evaluation-metrics": ["Accuracy"]},
    ),
    ("`min-nodes` is at least `min-committee-size`.", {"cluster.min-committee-size": 3}),
    ("`max-nodes` is at least `min-nodes`.", {"cluster.min-nodes": 100}),
    (
        "`max-committee-size` is at least `min-committee-size`.",
        {"cluster.min-committee-size": 6, "cluster.min-nodes": 6},
    ),
)
"""Rules between keys: a sentence, and changes of the example that break this rule and no other."""


def generate() -> str:
    """The page."""
    parts = [INTRODUCTION.format(kib=yaml12.MAX_BYTES >> 10, required=REQUIRED)]
    parts += [_render(table) for table in TABLES]
    parts.append("## Rules between keys\n\n" + "\n".join(_rules()) + "\n")
    parts.append(f"## An example\n\n```yaml\n{EXAMPLE.read_text()}```\n")
    return "\n".join(parts)


REQUIRED = "required"


def _render(table: Table) -> str:
    plain = changed(table.base)
    heading = (
        f"## `{table.title}`" if table.path and table.title.startswith(table.path) else f"## {table.title}"
    )
    if table.title.startswith("ml.dataset,"):
        heading = "## `ml.dataset`, of CSV only"
    about, meanings = describe(table.kind)
    lines = [heading, ""]
    if about and table.title not in (table.path, "ml.dataset, of CSV only"):
        lines += [about, ""]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(table.kind):
        key = field.encode_name
        if table.keys and key not in table.keys:
            continue
        meaning = meanings[field.name]
        cells = (f"`{key}`", accepted(plain, table, field), default(plain, table, field), meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    if tag := table.kind.__struct_config__.tag:
        lines.append(f"| `type` | {tag} | {REQUIRED} | the kind of layer |")
    return "\n".join(lines) + "\n"


def _rules() -> Iterator[str]:
    for sentence, changes in RULES:
        problems = problems_of(changed(changes))
        if len(problems) != 1:
            raise AssertionError(f"{sentence} {problems}")
        ((path, (problem, _)),) = problems.items()
        yield f"- {sentence} Else: `{path}: {problem}`."


def changed(changes: Mapping[str, object]) -> Plain:
    """The plain values of the example with some of them replaced; None removes a key."""
    plain = yaml12.load(EXAMPLE.read_text())
    for path, value in changes.items():
        place = tuple(int(part) if part.isdigit() else part for part in path.split("."))
        put(plain, place, value)
    return plain  # type: ignore[return-value]


def put(plain: Any, place: Place, value: object) -> None:
    """Replace the value at a place, or remove it."""
    *parents, last = place
    for part in parents:
        plain = plain[part]
    if value is None:
        plain.pop(last, None)
    else:
        plain[last] = value


def problems_of(plain: object) -> dict[str, tuple[str, str]]:
    """What is wrong with a definition: problem and fix by path."""
    try:
        parser.read(plain)
    except TaskError as error:
        return {found.path: (found.problem, found.fix) for found in error.errors}
    return {}


def accepted(plain: Plain, table: Table, field: msgspec.structs.FieldInfo) -> str:
    """What a key takes, in the words of the errors for values that it does not take."""
    key = field.encode_name
    if _is_section(field):
        return "a mapping, see below"
    path = f"{table.path}.{key}" if table.path else key

    def answer(value: object) -> str:
        changed_plain = copy.deepcopy(plain)
        put(changed_plain, (*table.place, key), value)
        _, fix = problems_of(changed_plain).get(path, ("", ""))
        return fix.removeprefix("expected ").removesuffix(" are accepted")

    what = answer(NO_VALUE)
    if names := _literals(field.type):
        return _alternatives(names)
    if what == "a text":
        what = answer("x") or f"a text of {answer(TOO_LONG)} characters"
    elif what == "a list":
        low, _, most = answer(TOO_MANY).partition(" to ")
        what = f"a list of {low} to {most}" if answer([]) else f"a list of at most {most}"
        what += (
            f" of {_alternatives(names, 'and')}"
            if (names := _literals(get_args(field.type)[0]))
            else " items"
        )
    elif what == "true or false":
        what = "`true` or `false`" if answer("auto") else "`true`, `false` or `auto`"
    elif what.startswith("a whole number") and not answer("x"):
        what += f", or a text of {answer(TOO_LONG)} characters"
    what = what.replace("1e+06", "1000000")
    return re.sub(r"\b\d{4,}\b", lambda found: f"{int(found[0]):,}", what)


def _literals(kind: Any) -> tuple[object, ...]:
    """The values of a type that is a Literal, or a Literal or None; none of any other type."""
    union = get_args(kind) if isinstance(kind, UnionType) or get_origin(kind) is Union else (kind,)
    kinds = [one for one in union if one is not NoneType]
    return get_args(kinds[0]) if len(kinds) == 1 and get_origin(kinds[0]) is Literal else ()


def _alternatives(values: Sequence[object], word: str = "or") -> str:
    *first, last = [f"`{value}`" for value in values]
    return f"{', '.join(first)} {word} {last}" if first else last


def default(plain: Plain, table: Table, field: msgspec.structs.FieldInfo) -> str:
    """What a key is when it is missing."""
    without = copy.deepcopy(plain)
    put(without, (*table.place, field.encode_name), None)
    try:
        read = parser.read(without)
    except TaskError:
        return REQUIRED
    value = _within(read, table, field.name)
    if isinstance(value, msgspec.Struct):
        return "its defaults"
    return "-" if value in (None, ()) else f"`{json.dumps(value)}`"


def _within(read: schema.TaskDefinition, table: Table, name: str) -> object:
    """The value of an attribute of the struct at the place of a table."""
    found: Any = read
    for part in table.place:
        if isinstance(part, int):
            found = found[part]
        else:
            names = {field.encode_name: field.name for field in msgspec.structs.fields(type(found))}
            found = getattr(found, names[part])
    return getattr(found, name)


def _is_section(field: msgspec.structs.FieldInfo) -> bool:
    kinds = getattr(field.type, "__args__", (field.type,))
    return all(isinstance(kind, type) and issubclass(kind, msgspec.Struct) for kind in kinds)


def describe(kind: type[msgspec.Struct]) -> tuple[str, dict[str, str]]:
    """The first paragraph of a struct's docstring, and the meaning of each attribute, as Markdown."""
    text, _, attributes = (kind.__doc__ or "").partition("Attributes:")
    meanings: dict[str, str] = {}
    name = ""
    for line in attributes.splitlines():
        if found := re.match(r" {8}(\w+): (.*)", line):
            name = found[1]
            meanings[name] = found[2]
        elif line.strip() and name:
            meanings[name] += f" {line.strip()}"
    return _markdown(text), {name: _markdown(text) for name, text in meanings.items()}


def _markdown(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(generate())
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}\n")

"""``mlnet-node validate``: what a task definition amounts to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mlnet.task import definition as task_definition
from mlnet.task.schema import TaskDefinition
from mlnet.util.wording import amount, clean, count

if TYPE_CHECKING:
    from mlnet.data import Dataset

Fact = tuple[str, str]
_SHOWN = 12


def validate(file: Path, *, read_data: bool) -> None:
    """Print the facts of a definition, and what may not be as its author wants it.

    Args:
        file: the definition.
        read_data: also cut the dataset into segments, in a directory that is gone afterwards.

    Raises:
        TaskError: the definition is wrong.
        DataError: the dataset is.
    """
    definition = task_definition.load_file(file)
    facts = [("definition", str(file)), *described(definition)]
    warnings = task_definition.warnings(definition)
    if read_data:
        dataset = _split(definition, file.parent)
        facts.extend(_read(definition, dataset))
        warnings += dataset.warnings
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        typer.echo(f"{name:<{width}}  {clean(value)}")
    for warning in warnings:
        typer.echo(f"warning: {clean(warning)}")
    typer.echo("valid" if read_data else "valid; the dataset was not read")


def described(definition: TaskDefinition) -> Iterator[Fact]:
    """The facts that stand in a definition."""
    ml, cluster = definition.ml, definition.cluster
    units = ", ".join(unit.summary for unit in ml.model.hidden_units)
    yield "model", f"{ml.model.type}: {units}; loss {ml.model.loss}"
    optimizer, rate = ml.optimizer, ml.optimizer.parameters.learning_rate
    effort = f"{count(optimizer.epochs, 'epoch')}, {optimizer.batch_size} rows a step"
    yield "training", f"{optimizer.type}, learning rate {rate:g}, {effort}"
    part = f"{100 * ml.validation.strategy.size:g} % of their rows validate"
    held = f"{definition.held_out_segments} are held back"
    yield "segments", f"{definition.training_segments} train ({part}), {held}"
    yield "metrics", ", ".join(ml.evaluation_metrics)
    yield "payment", amount(definition.payment_micro)
    nodes = f"{cluster.min_nodes} to {cluster.max_nodes} nodes within {cluster.waiting_period}"
    seats = f"{cluster.min_committee_size} to {cluster.max_committee_size} seats"
    yield "cluster", f"{nodes}, a committee of {seats}"
    needs = cluster.requirements
    least = [f"{needs.memory} of memory"] if needs.memory_bytes else []
    least += [count(needs.cpus, "processor")] if needs.cpus else []
    yield "each node", f"must offer at least {' and '.join(least)}" if least else "may be of any size"


def _split(definition: TaskDefinition, base: Path) -> Dataset:
    from mlnet import data

    with tempfile.TemporaryDirectory(prefix="mlnet-validate-") as directory:
        return data.split(definition, base, Path(directory))


def _read(definition: TaskDefinition, dataset: Dataset) -> Iterator[Fact]:
    parameters = task_definition.check_inputs(definition, dataset.inputs)
    train = dataset.segments[: definition.training_segments]
    size = max(segment.size for segment in dataset.segments)
    classes = dataset.schema.classes
    numbers, columns = dataset.schema.numbers, len(dataset.schema.categories)
    said = [count(numbers, "number")] if numbers else []
    said += [f"{count(columns, 'column')} of categories"] if columns else []
    yield "data", "; ".join((f"I read {count(dataset.rows, 'row')} of {' and '.join(said)}", *dataset.notes))
    for note in dataset.columns[:_SHOWN]:
        yield "", note
    if len(dataset.columns) > _SHOWN:
        yield "", f"and {count(len(dataset.columns) - _SHOWN, 'column')} more"
    if classes:
        yield "classes", ", ".join(map(str, classes[:_SHOWN])) + (", ..." if len(classes) > _SHOWN else "")
    yield "dataset", f"{count(dataset.rows, 'row')}, SHA-256 {dataset.sha256}"
    parts = [count(numbers, "number")] if numbers else []
    parts += [f"{dataset.inputs - numbers} of categories"] if columns else []
    yield "inputs", f"{dataset.inputs} of the model: {' and '.join(parts)}"
    yield "segment", f"up to {max(segment.rows for segment in train):,} rows in {size:,} bytes"
    yield "parameters", f"{parameters:,}"

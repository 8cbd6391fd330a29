"""What a task definition and its dataset amount to, for people: what ``mlnet-node validate`` shows, and the
API's Validate returns."""

from __future__ import annotations

from collections.abc import Iterator

from mlnet.data import Dataset
from mlnet.task import definition as task_definition
from mlnet.task.schema import TaskDefinition
from mlnet.util.wording import amount, clean, count

Fact = tuple[str, str]
_SHOWN = 12


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


def found(definition: TaskDefinition, dataset: Dataset) -> Iterator[Fact]:
    """The facts that stand in its dataset.

    Raises:
        TaskError: the model has too many parameters for it.
    """
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


def lines(facts: list[Fact]) -> list[str]:
    """Facts as lines of two columns."""
    width = max(len(name) for name, _ in facts)
    return [f"{name:<{width}}  {clean(value)}" for name, value in facts]

"""``mlnet-node validate``: what a task definition amounts to."""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer

from mlnet.task import definition as task_definition
from mlnet.util.wording import clean


def validate(file: Path, *, read_data: bool) -> None:
    """Print the facts of a definition, and what may not be as its author wants it.

    Args:
        file: the definition.
        read_data: also cut the dataset into segments, in a directory that is gone afterwards.

    Raises:
        TaskError: the definition is wrong.
        DataError: the dataset is.
    """
    from mlnet import data
    from mlnet.client import checking

    definition = task_definition.load_file(file)
    facts = [("definition", str(file)), *checking.described(definition)]
    warnings = task_definition.warnings(definition)
    if read_data:
        with tempfile.TemporaryDirectory(prefix="mlnet-validate-") as directory:
            dataset = data.split(definition, file.parent, Path(directory))
        facts.extend(checking.found(definition, dataset))
        warnings += dataset.warnings
    for line in checking.lines(facts):
        typer.echo(line)
    for warning in warnings:
        typer.echo(f"warning: {clean(warning)}")
    typer.echo("valid" if read_data else "valid; the dataset was not read")

"""``mlnet-node validate``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlnet.cli.arguments import definition_file
from mlnet.cli.options import Definition

SHORT_HELP = "Check a task definition and its dataset."


def command(
    file: Definition = None,
    no_data: Annotated[bool, typer.Option("--no-data", help="Do not read the dataset.")] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="First correct what has one fix only; FILE.orig keeps what it was.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="NEW", help="With --fix: write the corrected file there; - is standard output."),
    ] = None,
) -> None:
    """Check a task definition and its dataset, and show what was understood.

    Exit code 0 if both are right, 10 if the definition has errors (or, after --fix, has some left), 11 to 14
    if the dataset has.
    """
    if output is not None and not fix:
        raise typer.BadParameter(
            "it names the place for the corrected file; add --fix", param_hint="--output"
        )
    from mlnet.cli import correcting
    from mlnet.cli import validate as validating

    checked: Path | None = definition_file(file)
    if fix and checked is not None:
        checked = correcting.correct(checked, output)
    if checked is not None:
        validating.validate(checked, read_data=not no_data)

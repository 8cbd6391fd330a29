"""``mlnet-node predict``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlnet.cli.options import Json

SHORT_HELP = "Apply a model to new rows."


def command(
    model: Annotated[Path, typer.Argument(help="The model.safetensors of a finished task.")],
    data: Annotated[
        Path,
        typer.Argument(
            help="New rows: CSV, NPZ or NPY, IDX images, a segment, or a directory of one of these."
        ),
    ],
    delimiter: Annotated[
        str | None, typer.Option(help="What separates the values of a CSV, if it is not clear.")
    ] = None,
    header: Annotated[
        bool | None, typer.Option(help="Whether a line of a CSV names the columns, if it is not clear.")
    ] = None,
    decimal: Annotated[
        str | None, typer.Option(help="The decimal point of a CSV's numbers, if it is not clear.")
    ] = None,
    json: Json = False,
) -> None:
    """Apply a model to new rows: each one's class and its probability, or the values of a regression."""
    from mlnet.cli import predict as reading

    reading.print_predictions(model, data, reading.dialect(delimiter, header, decimal), json=json)

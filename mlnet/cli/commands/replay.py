"""``mlnet-node replay``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlnet.cli.options import Json

SHORT_HELP = "Audit the transcript of a task."


def command(
    file: Annotated[
        Path, typer.Argument(help="Transcript of a task: transcripts/TASK.jsonl in a data directory.")
    ],
    json: Json = False,
) -> None:
    """Derive a task's committee, Redis pair, segment order and rewards again from its signed messages."""
    from mlnet.cli import replay as replaying

    raise typer.Exit(replaying.replay(file, json=json))

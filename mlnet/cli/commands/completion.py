"""``mlnet-node completion``: the script that makes a shell complete commands, options and ids of tasks."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

SHORT_HELP = "Print the script that completes commands in a shell."
COMPLETE = "_MLNET_NODE_COMPLETE"
"""Environment variable with which a shell asks what may come next."""


class Shell(StrEnum):
    """Shells that can be told how."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def command(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> None:
    """Print the script that completes commands, options and ids of tasks in a shell.

    \b
    bash:  source <(mlnet-node completion bash)       (in ~/.bashrc)
    zsh:   source <(mlnet-node completion zsh)        (in ~/.zshrc, after compinit)
    fish:  mlnet-node completion fish | source        (in ~/.config/fish/config.fish)
    """
    from typer._completion_shared import get_completion_script

    from mlnet.cli.console import NAME

    typer.echo(get_completion_script(prog_name=NAME, complete_var=COMPLETE, shell=shell.value))

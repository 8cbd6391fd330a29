"""``mlnet-node``: the program, its exit codes, and what becomes of an error.

The commands are in :mod:`mlnet.cli.commands`.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from mlnet import __version__
from mlnet.cli import console, streams
from mlnet.cli.commands import NAMES
from mlnet.cli.commands.completion import COMPLETE
from mlnet.errors import MlnetError, every_kind

ABOUT = "A peer-to-peer network that trains models: run a node, or have a model trained."


def plainly(error: typer.BadParameter) -> str:
    """What is wrong with an argument. Typer checks with pydantic and passes its words on, which are for
    programmers and do not name the value."""
    message = str(error.message).removeprefix("Value error, ")
    problems: Any = getattr(error.__cause__, "errors", list)()
    if message.startswith("Input should be ") and problems:
        return f"{problems[0]['input']!r} is not {message.removeprefix('Input should be ').partition(',')[0]}"
    return message


class InOrder(TyperGroup):
    """The commands in the order of :data:`NAMES`, those that have commands of their own among them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return [name for name in NAMES if name in self.commands]

    def invoke(self, ctx: Any) -> Any:
        """Run the command that is named; what is wrong with its arguments is said in plain words."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = plainly(error)
            raise


app = typer.Typer(
    cls=InOrder,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
)


def exit_codes() -> str:
    """The exit codes, for the help; ``\\b`` keeps its lines."""
    lines = {0: "success", 1: "an unexpected error", 2: "wrong use of the command line"}
    lines |= {kind.exit_code: _first_sentence(kind) for kind in every_kind() if kind is not MlnetError}
    lines |= {console.INTERRUPTED: "interrupted by Ctrl-C"}
    return "\b\nExit codes:\n" + "\n".join(
        f"  {code:>3}  {meaning}" for code, meaning in sorted(lines.items())
    )


def _first_sentence(kind: type[MlnetError]) -> str:
    sentence = (kind.__doc__ or "").partition(".")[0].partition(";")[0]
    return sentence[:1].lower() + sentence[1:] if not sentence.startswith("Redis") else sentence


def main() -> NoReturn:
    """Run the command that the arguments name, and end the process."""
    streams.prepare()
    if COMPLETE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
    # PYTHONWARNINGS=error is for those who test a library, and would end us with a remark of one that we use.
    warnings.resetwarnings()
    warnings.simplefilter("ignore", DeprecationWarning)
    sys.exit(_run())


def _run() -> int | str | None:
    """The exit code."""
    try:
        try:
            app(prog_name=console.NAME)
        except SystemExit as end:
            sys.stdout.flush()
            return end.code
        return 0
    except MlnetError as error:
        return console.fail(error)
    except KeyboardInterrupt:
        return console.INTERRUPTED
    except BrokenPipeError:
        console.abandon_output()
        return 1
    except streams.OutputLost as error:
        console.lost_output(error)
        return 1
    except Exception as error:  # noqa: BLE001 - the last resort: one line in place of a traceback
        return console.crashed(error)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlnet {__version__}")
        raise typer.Exit


@app.callback(help=ABOUT, epilog=exit_codes())
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


def add_command(name: str) -> None:
    """Add the command of a module of :mod:`mlnet.cli.commands` to the program."""
    module = import_module(f"mlnet.cli.commands.{name}")
    if hasattr(module, "group"):
        app.add_typer(module.group, name=name, short_help=module.SHORT_HELP)
        return
    app.command(name, short_help=module.SHORT_HELP)(module.command)


for _name in NAMES:
    add_command(_name)

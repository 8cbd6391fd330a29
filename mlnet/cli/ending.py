"""How a task ends for the command that carried it out: its document, its last word, its exit code."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from mlnet.cli import console
from mlnet.cli.controls import Controls, Interrupted, Job, controlled
from mlnet.client.result import Result
from mlnet.errors import MlnetError, TaskCancelled
from mlnet.sdk.display import Display
from mlnet.util import local_json
from mlnet.util.wording import clean

__all__ = ["Command", "Controls", "Job", "Result", "carry_out", "document", "exit_code", "print_result"]

Command: TypeAlias = Callable[[Display, Controls], Awaitable[Result]]


def carry_out(command: Command, *, json: bool) -> int:
    """Run a command that ends in a result, under a display and the user's controls.

    Args:
        command: what to run.
        json: print the result on standard output, whatever it is.

    Returns:
        The exit code.
    """
    display = Display()
    try:
        with display:
            result, interrupted = asyncio.run(_controlled(command, display))
            display.result(result)
    except MlnetError as error:
        result, interrupted = document(error), False
        code = console.fail(error)
    except Interrupted as error:
        result, interrupted, code = document(error), True, console.INTERRUPTED
        console.say(str(error))
    else:
        code = exit_code(result, interrupted=interrupted)
    if json:
        print_result(result)
    return code


def print_result(result: Result) -> None:
    """Write the document to standard output; the exit code tells of the task, not of that."""
    try:
        sys.stdout.buffer.write(local_json.encode(result, indent=2) + b"\n")
        sys.stdout.flush()
    except OSError as error:
        console.lost_output(error)


async def _controlled(command: Command, display: Display) -> tuple[Result, bool]:
    say = functools.partial(display.say, style="yellow")
    with controlled(say) as controls, display.following(controls.now):
        return await command(display, controls), controls.interrupted


def exit_code(result: Result, *, interrupted: bool) -> int:
    """The exit code for a result, whose error is said."""
    error = result.error
    if error is None:
        return 0
    if interrupted and result.state == "cancelled":
        console.say(str(error))
        return console.INTERRUPTED
    return console.fail(error)


def document(error: MlnetError | Interrupted) -> Result:
    """The result of a task that did not come to an end of its own."""
    if isinstance(error, Interrupted):
        return Result(task="", state="cancelled", reason=str(error), code=TaskCancelled.__name__)
    return Result(task="", state="failed", reason=clean(str(error), 4000), code=type(error).__name__)

"""``mlnet-node tasks``: its commands and their options. Nothing heavy is loaded before they run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlnet.cli.options import Ca, Json, JsonLines, Node, Token

SHORT_HELP = "List, watch, cancel and download the tasks of a running node."
group = typer.Typer(rich_markup_mode=None, add_completion=False)


def _complete(incomplete: str) -> list[str]:
    from mlnet.cli.tasks import complete

    return complete(incomplete)


class StateName(StrEnum):
    """States of a task."""

    GATHERING = "gathering"
    FORMING = "forming"
    TRAINING = "training"
    FINISHING = "finishing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


Task = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        help="Its id, or a beginning of it that no other task has.",
        autocompletion=_complete,
    ),
]
States = Annotated[
    list[StateName] | None,
    typer.Option(
        "--state", metavar="STATE", help=f"Only tasks in this state ({', '.join(StateName)}); repeatable."
    ),
]
Limit = Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="At most so many.")]


@group.callback(invoke_without_command=True)
def command(
    context: typer.Context,
    node: Node = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """List, watch, cancel and download the tasks of a running node. Without a command: list them."""
    if context.invoked_subcommand is None:
        list_tasks(None, 50, node, token, ca, json)
    elif json or ca is not None or any(_is_given(context, name) for name in ("node", "token")):
        raise typer.BadParameter(f"write the options after `tasks {context.invoked_subcommand}`")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@group.command("list", short_help="List tasks, the latest first.")
def list_tasks(
    state: States = None,
    limit: Limit = 50,
    node: Node = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """List the tasks of which a node is the client, the latest first."""
    from mlnet.cli import tasks
    from mlnet.cli.remote import Address
    from mlnet.sdk.records import TaskState

    states = [TaskState(one.value) for one in state or ()]
    tasks.show_list(Address(node, token, ca), states, limit, json=json)


@group.command("show", short_help="Show one task.")
def show_task(task: Task, node: Node = None, token: Token = None, ca: Ca = None, json: Json = False) -> None:
    """Show where a task is, what it waits for, or how it ended."""
    from mlnet.cli import tasks
    from mlnet.cli.remote import Address

    tasks.show_one(Address(node, token, ca), task, json=json)


@group.command("watch", short_help="Show what happens in a task, to its end.")
def watch_task(
    task: Task,
    from_revision: Annotated[
        int, typer.Option("--from", min=1, metavar="N", help="The first event to show.")
    ] = 1,
    until: Annotated[
        StateName | None, typer.Option(metavar="STATE", help="Stop at this state. Default: the end.")
    ] = None,
    node: Node = None,
    token: Token = None,
    ca: Ca = None,
    json: JsonLines = False,
) -> None:
    """Show what has happened and happens in a task, to its end. It goes on after the node was restarted.

    All of it goes to standard output: to a pipe or a file as plain lines, with a footer on a terminal only.
    """
    from mlnet.cli import tasks
    from mlnet.cli.remote import Address
    from mlnet.sdk.records import TaskState

    wanted = TaskState(until.value) if until else None
    tasks.watch(Address(node, token, ca), task, from_revision, wanted, json=json)


@group.command("wait", short_help="Wait for the end of a task.")
def wait_for_task(
    task: Task,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long, such as 90s or 2h. Default: to the end.")
    ] = None,
    node: Node = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Wait for the end of a task.

    Exit code 0: it is completed; 1: it failed or was cancelled; 3: it has not ended in time. A node that does
    not answer, or has no such task, has the exit codes that `mlnet-node --help` lists.
    """
    from mlnet.cli import tasks
    from mlnet.cli.arguments import parse_duration
    from mlnet.cli.remote import Address

    seconds = None if timeout is None else parse_duration(timeout)
    raise typer.Exit(tasks.wait(Address(node, token, ca), task, seconds, json=json))


@group.command("cancel", short_help="Give a task up.")
def cancel_task(
    task: Task,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Told to the nodes.")] = "",
    node: Node = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Give a task up. The nodes are told; a task that has ended stays as it is."""
    from mlnet.cli import tasks
    from mlnet.cli.remote import Address

    tasks.cancel(Address(node, token, ca), task, reason, json=json)


@group.command("download", short_help="Fetch the model of a task.")
def download_model(
    task: Task,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Directory for model and result.json. Default: ./mlnet-TASK."),
    ] = None,
    node: Node = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Fetch the model of a completed task, and result.json. What broke off goes on where it was."""
    from mlnet.cli import tasks
    from mlnet.cli.remote import Address

    tasks.download(Address(node, token, ca), task, output, json=json)


@group.command("transcript", short_help="Fetch the signed messages of a task.")
def fetch_transcript(
    task: Task,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="To write. Default: standard output.")
    ] = None,
    node: Node = None,
    token: Token = None,
    ca: Ca = None,
) -> None:
    """Fetch the signed messages of a task, as `mlnet-node replay` reads them: a line of JSON for each."""
    from mlnet.cli import tasks
    from mlnet.cli.remote import Address

    tasks.transcript(Address(node, token, ca), task, output)

"""``mlnet-node``: the commands. Nothing heavy is loaded before a command needs it."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mlnet import __version__
from mlnet.cli import console, streams
from mlnet.cli.arguments import (
    DEFAULT_FILE,
    definition_file,
    parse_amount,
    parse_peer_id,
    parse_ports,
    parse_size,
)
from mlnet.errors import MlnetError, every_kind

ABOUT = "A peer-to-peer network that trains models: run a node, or have a model trained."

app = typer.Typer(
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


Strings = list[str] | None
Definition = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE", help=f"The task definition. Default: ./{DEFAULT_FILE}, else the packaged example."
    ),
]
Peer = Annotated[
    Strings,
    typer.Option(metavar="ADDRESS", help="Address of a node, as its `start` prints it; repeatable."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Directory for identity, journals and ledger. Default: ~/.local/share/mlnet."),
]
Output = Annotated[
    Path | None, typer.Option(help="New or empty directory for model and result.json. Default: ./mlnet-TASK.")
]
WaitingPeriod = Annotated[
    str | None,
    typer.Option(
        help="Time to wait for nodes, such as 90s, and before that for a peer to answer at all (at least "
        "15 s). Default: cluster.waiting-period of the definition."
    ),
]
Patience = Annotated[
    float,
    typer.Option(
        min=0.01, max=1000.0, metavar="FACTOR", help="Factor by which all deadlines are multiplied."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
ShowMessages = Annotated[
    bool, typer.Option("--show-messages", help="Show each message as YAML on standard error.")
]
Redis = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Redis or Valkey server program. Default: the one that is found."),
]
RedisPorts = Annotated[
    str | None, typer.Option(metavar="LOW-HIGH", help="Ports for Redis servers. Default: any free port.")
]


def main() -> NoReturn:
    """Run the command that the arguments name, and end the process."""
    streams.prepare()
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


@app.command(short_help="Run a node.")
def start(
    listen: Annotated[
        Strings,
        typer.Option(
            metavar="ADDRESS",
            help="Multiaddr to listen on; repeatable. Default: a free port of all interfaces.",
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="To listen on at all addresses. Default: a free one.")
    ] = None,
    peer: Annotated[
        Strings,
        typer.Option(
            metavar="ADDRESS", help="Address of a node to join, as its `start` prints it; repeatable."
        ),
    ] = None,
    data_dir: DataDir = None,
    tools: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve gRPC to local tools at this address.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve metrics for Prometheus at this address."),
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(
            parser=parse_size,
            metavar="SIZE",
            help="Memory for each task, such as 4GiB. Default: half of the machine's.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads for each task. Default: all processors.")
    ] = None,
    disk: Annotated[
        int | None,
        typer.Option(parser=parse_size, metavar="SIZE", help="Disk space for each task. Default: 10GiB."),
    ] = None,
    tasks: Annotated[int, typer.Option(min=1, max=64, help="How many tasks to take at the same time.")] = 1,
    max_parameters: Annotated[int, typer.Option(min=1, help="Largest model to train.")] = 100_000_000,
    least_payment: Annotated[
        int | None,
        typer.Option(
            parser=parse_amount, metavar="AMOUNT", help="Least payment of a task to take. Default: 0."
        ),
    ] = None,
    allow_client: Annotated[
        Strings,
        typer.Option(
            parser=parse_peer_id,
            metavar="PEER",
            help="Client whose tasks are taken; repeatable. Default: all clients.",
        ),
    ] = None,
    redis: Redis = None,
    redis_ports: RedisPorts = None,
    file_root: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Directory that file:// links may read; repeatable. Default: none."),
    ] = None,
    allow_private_links: Annotated[
        bool, typer.Option("--allow-private-links", help="Allow http links to private addresses.")
    ] = False,
    tunnel_training: Annotated[
        bool,
        typer.Option(
            "--tunnel-training", help="Receive gradients through libp2p, on this node's one open port."
        ),
    ] = False,
    patience: Patience = 1.0,
    show_messages: ShowMessages = False,
    parent: Annotated[int | None, typer.Option(hidden=True, help="Process to die with.")] = None,
) -> None:
    """Run a node until Ctrl-C, and print the line with which another machine joins it."""
    if parent is not None:
        from mlnet.util.subprocesses import die_with_parent

        die_with_parent(parent)
    ports = parse_ports(redis_ports) if redis_ports else None

    import asyncio

    from mlnet.cli import start as operating
    from mlnet.data.fetching import LinkPolicy
    from mlnet.driver.directories import default_data_dir
    from mlnet.driver.messenger import WireOptions
    from mlnet.driver.options import NodeOptions, offered
    from mlnet.net.transport.listening import everywhere
    from mlnet.protocol.deadlines import Deadlines
    from mlnet.protocol.node import Terms

    addresses = (*(listen or ()), *(everywhere(port) if port is not None else ()))
    options = NodeOptions(
        data_dir=data_dir or default_data_dir("node"),
        wire=WireOptions(addresses or WireOptions().listen, tuple(peer or ()), tools),
        terms=Terms(
            offered(memory >> 20 if memory else None, threads),
            tasks,
            max_parameters,
            least_payment or 0,
            frozenset(allow_client or ()),
        ),
        deadlines=Deadlines().scaled(patience),
        redis=redis,
        redis_ports=ports,
        disk=disk or 10 << 30,
        policy=LinkPolicy(tuple(file_root or ()), allow_private_links),
        tunnel_training=tunnel_training,
    )
    operation = operating.Operation(options, show_messages=show_messages, metrics=metrics)
    raise typer.Exit(asyncio.run(operation.run()))


@app.command(short_help="Have a model trained by the network.")
def submit(
    peer: Peer = None,
    file: Definition = None,
    output: Output = None,
    waiting_period: WaitingPeriod = None,
    allow_node: Annotated[
        Strings,
        typer.Option(
            parser=parse_peer_id,
            metavar="PEER",
            help="Node that may take part; repeatable. Default: all nodes.",
        ),
    ] = None,
    data_dir: DataDir = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="Resume an unfinished task, named by the beginning of its id."),
    ] = None,
    patience: Patience = 1.0,
    json: Json = False,
    show_messages: ShowMessages = False,
) -> None:
    """Have a model trained by the network, and show how. Enter ends the wait for nodes; Ctrl-C cancels."""
    if not peer and resume is None:
        raise typer.BadParameter(
            "give the address of a node, as its `mlnet-node start` prints it",
            param_hint="--peer",
        )
    from mlnet.cli import ending
    from mlnet.cli.display import Display

    async def carried_out(display: Display, controls: ending.Controls) -> ending.Result:
        from mlnet.cli.submit import submit
        from mlnet.driver.directories import default_data_dir
        from mlnet.driver.messenger import WireOptions
        from mlnet.driver.options import ClientOptions
        from mlnet.protocol.deadlines import Deadlines

        options = ClientOptions(
            data_dir=data_dir or default_data_dir("client"),
            wire=WireOptions(peers=tuple(peer or ())),
            deadlines=Deadlines().scaled(patience),
            allowed=frozenset(allow_node) if allow_node else None,
        )
        job = ending.Job(definition_file(file), output, waiting_period, resume, show_messages=show_messages)
        return await submit(options, job, display, controls)

    raise typer.Exit(ending.carry_out(carried_out, json=json))


@app.command(short_help="Run a whole network on this machine for one task.")
def demo(
    file: Definition = None,
    nodes: Annotated[int, typer.Option(min=1, max=64, help="How many nodes to start, each a process.")] = 5,
    output: Output = None,
    waiting_period: WaitingPeriod = "2m",
    json: Json = False,
    show_messages: ShowMessages = False,
) -> None:
    """Run a whole network on this machine, have it train one model, and stop it."""
    from mlnet.cli import ending
    from mlnet.cli.demo import demonstrate
    from mlnet.cli.display import Display

    async def carried_out(display: Display, controls: ending.Controls) -> ending.Result:
        job = ending.Job(definition_file(file), output, waiting_period, show_messages=show_messages)
        return await demonstrate(job, nodes, display, controls)

    raise typer.Exit(ending.carry_out(carried_out, json=json))


@app.command(short_help="Check a task definition and its dataset.")
def validate(
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


@app.command(short_help="Apply a model to new rows.")
def predict(
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


@app.command()
def rewards(data_dir: DataDir = None, json: Json = False) -> None:
    """Show what this node has earned."""
    from mlnet.cli import predict as reading
    from mlnet.driver.directories import default_data_dir

    reading.print_rewards(data_dir or default_data_dir("node"), json=json)


@app.command(short_help="Check whether a node can run here.")
def doctor(
    data_dir: DataDir = None,
    redis: Redis = None,
    redis_ports: RedisPorts = None,
    json: Json = False,
) -> None:
    """Check whether a node can run here, and say what to do if not. Exit code 0 if it can, else 3."""
    from mlnet.cli import doctor as examination
    from mlnet.driver.directories import default_data_dir

    ports = parse_ports(redis_ports) if redis_ports else None
    raise typer.Exit(examination.doctor(data_dir or default_data_dir("node"), redis, ports, json=json))


@app.command(short_help="Run the protocol under faults, in virtual time.")
def simulate(
    nodes: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Nodes in each run. Default: 3 to 10, drawn by the seed."),
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Tasks at the same time. Default: as the fault profile says."),
    ] = None,
    faults: Annotated[
        str, typer.Option(metavar="PROFILE", help="Fault profile, such as calm, loss, chaos or mixed.")
    ] = "mixed",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first run.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many runs, each with the next seed.")] = 1,
    until: Annotated[
        int | None, typer.Option(min=1, metavar="STEP", help="Show a single run, up to this step.")
    ] = None,
    cluster: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Key of the definition's cluster part; repeatable."),
    ] = None,
    known: Annotated[
        int | None,
        typer.Option(min=0, metavar="NODES", help="Nodes that the client knows. Default: all, at most 1024."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes at the same time. Default: one for each core.")
    ] = None,
    json: Json = False,
) -> None:
    """Run the state machines of nodes and clients under faults, and check what must always hold."""
    from mlnet.simulation.command import Request, keys
    from mlnet.simulation.command import simulate as run
    from mlnet.simulation.scenario import Scenario

    scenario = Scenario(seed, faults, nodes, tasks, keys(cluster) if cluster else None, known)
    raise typer.Exit(run(Request(scenario, seeds, until, processes, json)))


@app.command(short_help="Audit the transcript of a task.")
def replay(
    file: Annotated[
        Path, typer.Argument(help="Transcript of a task: transcripts/TASK.jsonl in a data directory.")
    ],
    json: Json = False,
) -> None:
    """Derive a task's committee, Redis pair, segment order and rewards again from its signed messages."""
    from mlnet.cli import replay as replaying

    raise typer.Exit(replaying.replay(file, json=json))

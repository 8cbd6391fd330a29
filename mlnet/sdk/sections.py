"""What each report of a client's machine looks like, on a terminal as in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mlnet.client.result import Result
from mlnet.util.wording import TASK_LENGTH, amount, clean, count, duration, share, short, shorts

MAX_MATRIX = 10
"""Members of the largest committee whose ping matrix fits a terminal."""
HASH_LENGTH = 8
BAR = 30
INDENT = 3

TITLES = {
    "gathering": (
        "Gather",
        "free nodes answer; each starts a Redis server and has another node test its port",
    ),
    "voting": ("Committee", "the minority of each vote stays, until there are no more nodes than seats"),
    "measuring": ("Database", "the committee pings each other's Redis; a Borda count elects the pair"),
    "ready": ("Ready", "the slave replicates the master, and every member signs the same decision"),
    "ballots": ("Dataset", "secret ballots order the ten segments; the first train, the last are held back"),
    "training": ("Training", "each node trains on its share of the rows; the gradients are averaged"),
    "scoring": ("Model", "fetched by its hash, and scored here on the segments that nobody trained on"),
    "rewards": ("Reward", "nine tenths by rows trained, one tenth to the committee; all sign the split"),
}
"""Heading and explanation of each phase that has a section of its own."""
NUMBERS = {phase: number for number, phase in enumerate(TITLES, start=1)}
PHASES = {
    "starting": "start nodes",
    "gathering": "gather",
    "voting": "vote",
    "measuring": "ping",
    "ready": "ready",
    "ballots": "ballots",
    "order": "order",
    "training": "train",
    "failing": "fail",
    "scoring": "score",
    "rewards": "reward",
}
"""Short names of phases, in their order."""


def heading(phase: str) -> RenderableType:
    """The title of a section."""
    title, explanation = TITLES[phase]
    return Text.assemble("\n", (f"{NUMBERS[phase]}  {title}", "bold cyan"), "  ", (explanation, "dim"))


def line(text: str, style: str = "", mark: str = " ") -> RenderableType:
    """One line below a heading."""
    grid = _grid(1)
    grid.add_row(mark, Text(clean(text), style=style))
    return grid


def answered(data: Mapping[str, Any]) -> RenderableType:
    """A node that takes part."""
    port = f"port open at {data['host']}" if data["open"] else f"port closed: {data['reason']}"
    vote = "vote sealed" if data["vote"] is None else f"votes {data['vote']}"
    words = Text.assemble((short(data["peer"]), "bold"), f"  {vote}  ")
    words.append(clean(port), "" if data["open"] else "yellow")
    grid = _grid(1)
    grid.add_row(Text("+", "green"), words)
    return grid


def noted(data: Mapping[str, Any]) -> RenderableType:
    """What a node said of why it does not, or no longer, take part."""
    return line(f"{short(data['peer'])}  {data['reason']}", "yellow", "-")


def shared(data: Mapping[str, Any]) -> RenderableType:
    """A task takes its share of the nodes."""
    others = count(data["others"], "other client")
    return line(
        f"{others} gathering nodes, too:"
        f" this task takes {data['taken']} of the {data['answered']} that answered"
    )


def retried(data: Mapping[str, Any]) -> RenderableType:
    """A new attempt."""
    left = shorts(data["without"]) or "nobody"
    return line(f"attempt {data['attempt']}, without {left}: {data['reason']}", "yellow", "!")


def members(data: Mapping[str, Any]) -> RenderableType:
    """Who is in the cluster."""
    named = data["members"]
    again = f" (attempt {data['attempt']})" if data["attempt"] > 1 else ""
    return line(f"cluster of {count(len(named), 'node')}{again}: {shorts(named)}", "bold")


def cycle(data: Mapping[str, Any]) -> RenderableType:
    """The votes of one cycle and what they decide."""
    votes: Mapping[str, int] = data["votes"]
    grid = _grid(2)
    for side in (0, 1):
        voters = shorts([peer for peer in votes if votes[peer] == side]) or "nobody"
        grid.add_row("", f"cycle {data['number']}" if side == 0 else "", f"{side}: {voters}")
    grid.add_row("", "", Text(clean(data["reason"]), "dim"))
    return grid


def committee(data: Mapping[str, Any]) -> RenderableType:
    """Who is seated."""
    return line(f"committee: {shorts(data['committee'])} ({data['reason']})", "bold")


def ranking(data: Mapping[str, Any]) -> RenderableType:
    """Ping times in both directions, Borda points, and the pair that they elect."""
    peers, matrix, points = data["members"], data["matrix"], data["points"]
    wide = len(peers) <= MAX_MATRIX
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("ping, µs")
    for peer in peers if wide else ():
        table.add_column(short(peer), justify="right")
    table.add_column("Borda points", justify="right")
    table.add_column("")
    roles = {data["master"]: "Redis master", data["slave"]: "Redis slave"}
    for row, (peer, times) in enumerate(zip(peers, matrix, strict=True)):
        cells = [_ping(time, diagonal=row == place) for place, time in enumerate(times)] if wide else []
        role = roles.get(peer, "")
        table.add_row(short(peer), *cells, str(points[row]), role, style="bold green" if role else None)
    return _indented(Group(table, Text(clean(data["reason"]), "dim")))


def bound(data: Mapping[str, Any]) -> RenderableType:
    """The decision that every member signed."""
    digest = data["digest"][:TASK_LENGTH]
    return line(f"all {len(data['nodes'])} nodes signed decision {digest}; the task is bound to it", "bold")


def ballots(data: Mapping[str, Any]) -> RenderableType:
    """Whose ballots count."""
    void = f"; not of {shorts(data['void'])}" if data["void"] else ""
    return line(f"ballots of {shorts(data['counted'])} count{void}")


def order(data: Mapping[str, Any]) -> RenderableType:
    """The voted order of the segments."""
    held = set(data["held_out"])
    grid = _grid(2)
    for label, digests in (
        ("train", [digest for digest in data["order"] if digest not in held]),
        ("held back", data["held_out"]),
    ):
        grid.add_row("", label, Text(" ".join(digest[:HASH_LENGTH] for digest in digests), "bold"))
    return grid


def epoch(data: Mapping[str, Any]) -> RenderableType:
    """Where training is at the end of an epoch."""
    accuracy = data.get("accuracy")
    grid = _grid(3)
    grid.add_row(
        "",
        f"epoch {data['epoch']:>{len(str(data['epochs']))}} of {data['epochs']}",
        f"loss {loss(data.get('loss'))}",
        "" if accuracy is None else f"accuracy {share(accuracy)}",
    )
    return grid


def trained(data: Mapping[str, Any]) -> RenderableType:
    """What the members say of their model."""
    return line(
        f"trained: {_figures(data)} on the validation split; model {data['sha256'][:TASK_LENGTH]}", "bold"
    )


def scored(data: Mapping[str, Any]) -> RenderableType:
    """What the client found."""
    return line(f"scored: {_figures(data)} on the held-back segments", "bold")


def rewards(data: Mapping[str, Any], roles: Mapping[str, str]) -> RenderableType:
    """The split of the payment."""
    split: Mapping[str, int] = data["split"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name, justify in (("node", "left"), ("role", "left"), ("reward", "right"), ("", "right")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for peer, micro in sorted(split.items(), key=lambda item: (-item[1], item[0])):
        part = f"{100 * micro / data['payment']:.1f} %" if data["payment"] else ""
        table.add_row(short(peer), roles.get(peer, "worker"), amount(micro), part)
    table.add_row("sum", "", amount(sum(split.values())), "", style="bold")
    settled = "settled: signed by the client and more than half of the committee"
    claimed = "signed by the client; the committee's signatures have not all arrived yet"
    return _indented(Group(table, Text(settled if data["settled"] else claimed, "dim")))


def conclusion(result: Result) -> RenderableType:
    """The end of a task, and where its time went."""
    parts: list[RenderableType] = [Text(""), _verdict(result)]
    if result.state == "completed":
        found = result.accuracy
        grid = Table.grid(padding=(0, 2))
        if found.validation is not None or found.held_out is not None:
            both = f"{share(found.validation)} validation, {share(found.held_out)} held back"
            grid.add_row("accuracy", both)
        for name, value in result.metrics.items():
            if name != "Accuracy":
                grid.add_row(name, f"{value:.4f} held back")
        if result.model is not None:
            grid.add_row("model", Text(result.model.path, overflow="fold"))
            grid.add_row("SHA-256", Text(result.model.sha256, overflow="fold"))
        parts.append(_indented(grid))
    if result.seconds:
        parts.append(_indented(times(result.seconds)))
    return Group(*parts)


def times(seconds: Mapping[str, float]) -> RenderableType:
    """The time that each phase took, as bars."""
    total = sum(seconds.values())
    table = Table.grid(padding=(0, 2))
    for name, value in sorted(seconds.items(), key=lambda item: _place(item[0])):
        length = round(BAR * value / total) if total else 0
        bar = Text("━" * length, "cyan")
        table.add_row(PHASES.get(name, name), Text(duration(value), justify="right"), bar)
    table.add_row(Text("in all", "bold"), Text(duration(total), "bold", justify="right"), "")
    return table


def loss(value: float | None) -> str:
    """A loss in four figures."""
    return "none" if value is None else f"{value:.4f}"


def _verdict(result: Result) -> Text:
    task = result.task[:TASK_LENGTH]
    if result.state == "completed":
        return Text.assemble(("Done", "bold green"), f"  task {task} has its model")
    return Text.assemble((result.state.capitalize(), "bold red"), f"  task {task} has no model")


def _figures(data: Mapping[str, Any]) -> str:
    named = {name: value for name, value in data["metrics"].items() if name != "Accuracy"}
    figures = [f"{clean(name)} {value:.4f}" for name, value in sorted(named.items())]
    if data["accuracy"] is not None:
        figures.insert(0, f"accuracy {share(data['accuracy'])}")
    return ", ".join(figures) or "no metrics"


def _place(phase: str) -> int:
    return list(PHASES).index(phase) if phase in PHASES else len(PHASES)


def _ping(time: int, *, diagonal: bool) -> str:
    return "." if diagonal else "lost" if time < 0 else f"{time:,}"


def _grid(columns: int) -> Table:
    """A mark, and columns beside it of which the last one wraps."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=INDENT - 2, no_wrap=True)
    for _ in range(columns - 1):
        grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _indented(part: RenderableType) -> RenderableType:
    return Padding(part, (0, 0, 0, INDENT), expand=False)


def unknown(what: str, data: Mapping[str, Any]) -> RenderableType:
    """A report that has no form of its own."""
    return line(f"{what}: {', '.join(f'{name} {value}' for name, value in data.items())}", "dim")


def roles(master: str, slave: str, seated: Iterable[str], nodes: Iterable[str]) -> dict[str, str]:
    """What each node of a cluster is."""
    found = dict.fromkeys(nodes, "worker") | dict.fromkeys(seated, "committee")
    pair = ((master, "committee, master"), (slave, "committee, slave"))
    return found | {peer: role for peer, role in pair if peer}

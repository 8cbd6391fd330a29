"""Shows the course of a task: what is settled scrolls by; on a terminal, a footer shows what goes on now."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import TracebackType
from typing import IO, Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from mlnet.client.result import Result
from mlnet.protocol.commands import Report
from mlnet.protocol.wire.messages import ClusterReady
from mlnet.sdk import sections
from mlnet.util.wording import clean, duration, printable, share

PLAIN_WIDTH = 110
"""Columns where there is no terminal."""
REFRESHES = 8
"""A second, of the footer."""
EPOCH_LINES = 10
"""About how many epochs have a line of their own."""
STRIP = ("gathering", "voting", "measuring", "ready", "ballots", "order", "training", "scoring", "rewards")
"""Phases that the footer shows."""
LOADING = "the nodes fetch their segments, load PyTorch and meet over the new Redis pair"
"""What goes on before the first step of training."""
HEADED = {"order": "ballots", "failing": "training"}
"""Phases without a section, and the one that they belong to."""


class Now(Protocol):
    """What the footer asks a task for, several times a second and from another thread."""

    def __call__(self) -> str:
        """What it waits for, and what the user may do."""
        ...


@dataclass
class TrainingFigures:
    """How far training is: the steps of all ranks, the figures that rank 0 sees."""

    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    loss: float | None = None
    accuracy: float | None = None
    _latest: Mapping[str, Any] | None = None

    def take(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        """Take a report in; what to show of the epoch before, if another begins."""
        self.epochs, self.steps = data["epochs"], data["steps"]
        self.epoch, self.step = max(self.epoch, data["epoch"]), max(self.step, data["step"])
        if data.get("rank", 0) != 0:
            return None
        over = self.finished() if self._latest and self._latest["epoch"] < data["epoch"] else None
        self._latest = data
        self.loss = data["loss"] if data.get("loss") is not None else self.loss
        self.accuracy = data["accuracy"] if data.get("accuracy") is not None else self.accuracy
        return over

    def finished(self) -> dict[str, Any] | None:
        """What to show of the latest epoch, once; its last report has the figures of all ranks."""
        if self._latest is None:
            return None
        epoch, every = self._latest["epoch"], max(1, round(self.epochs / EPOCH_LINES))
        self._latest = None
        if epoch not in (1, self.epochs) and epoch % every:
            return None
        return {"epoch": epoch, "epochs": self.epochs, "loss": self.loss, "accuracy": self.accuracy}


@dataclass
class Phases:
    """Which phases a task has been in, and since when it is in the present one."""

    clock: Callable[[], float]
    present: str = ""
    since: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    def enter(self, phase: str) -> None:
        """The task moves on; a phase that comes again goes on counting."""
        now = self.clock()
        if self.present:
            self.seconds[self.present] = self.seconds.get(self.present, 0.0) + now - self.since
        self.present, self.since = phase, now

    def elapsed(self, phase: str) -> float | None:
        """Seconds in a phase; None when the task was never in it."""
        running = self.clock() - self.since if phase == self.present else None
        spent = self.seconds.get(phase)
        return spent if running is None else running + (spent or 0.0)


class Display:
    """Shows one task. Use it as a context, in which nothing else writes to the terminal.

    Args:
        stream: usually standard error.
        live: whether a footer is drawn; None for when the stream is a terminal that can.
        width: columns; None for the terminal's own.
        clock: seconds.
    """

    def __init__(
        self,
        stream: IO[str] | None = None,
        *,
        live: bool | None = None,
        width: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        file = sys.stderr if stream is None else stream
        terminal = file.isatty()
        self._console = Console(
            file=file,
            width=width or (None if terminal else PLAIN_WIDTH),
            force_terminal=None if terminal else False,
            highlight=False,
            emoji=False,
            markup=False,
        )
        if live is not None:
            drawn = live
        elif self._console.is_jupyter:
            drawn = find_spec("ipywidgets") is not None  # without it rich warns with every refresh
        else:
            drawn = terminal and not self._console.is_dumb_terminal
        self._spinner = Spinner("line" if self._console.options.ascii_only else "dots")
        self._headings: set[str] = set()
        self._training = TrainingFigures()
        self._phases = Phases(clock)
        self._roles: dict[str, str] = {}
        self._now: Now | None = None
        self._live = self._footer_view() if drawn else None

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @contextmanager
    def following(self, now: Now) -> Iterator[None]:
        """Show in the footer what a task waits for."""
        self._now = now
        if self._live is not None:
            self._live.refresh()
        try:
            yield
        finally:
            self._now = None

    # ------------------------------------------------------------------------------------- what comes in

    def report(self, report: Report) -> None:
        """Show a report of the client's machine."""
        data: Mapping[str, Any] = report.data
        if report.what == "phase":
            self.enter(data["phase"])
        elif report.what == "progress":
            self._head("training")
            self._show_epoch(self._training.take(data))
        else:
            self._keep(report.what, data)
            self._head(_SECTIONS[report.what][0] if report.what in _SECTIONS else report.what)
            self._print(self._section(report.what, data))

    def decided(self, ready: ClusterReady) -> None:
        """Know who is what in the cluster, without a word about it."""
        self._roles = sections.roles(ready.master, ready.slave, ready.committee, ready.nodes)

    def refresh(self) -> None:
        """Draw the footer anew, where that does not happen by itself."""
        if self._live is not None and self._console.is_jupyter:
            self._live.refresh()

    def say(self, text: str, style: str = "") -> None:
        """Show a line of this program's own."""
        self._print(sections.line(text, style))

    def begin(self, title: str, explanation: str) -> None:
        """Show what is about to happen."""
        self._print(Text.assemble((clean(title), "bold"), "  ", (clean(explanation), "dim")))

    def verbatim(self, text: str) -> None:
        """Show text of several lines as it is."""
        self._print(Text(printable(text.rstrip("\n"))), wrap=False)

    def enter(self, phase: str) -> None:
        """The task moves on to a phase."""
        self._phases.enter(phase)
        self._head(phase)

    def result(self, result: Result) -> None:
        """Show the end."""
        self._print(sections.conclusion(result))

    # ------------------------------------------------------------------------------------- inside

    def _head(self, phase: str) -> None:
        phase = HEADED.get(phase, phase)
        if phase in sections.TITLES and phase not in self._headings:
            self._headings.add(phase)
            self._print(sections.heading(phase))

    def _keep(self, what: str, data: Mapping[str, Any]) -> None:
        if what == "trained":
            self._show_epoch(self._training.finished())
        elif what == "ranking":
            members = data["members"]
            self._roles = sections.roles(data["master"], data["slave"], members, members)
        elif what == "retry":
            self._headings -= {"voting", "measuring", "ready"}

    def _show_epoch(self, epoch: Mapping[str, Any] | None) -> None:
        if epoch is not None:
            self._print(sections.epoch(epoch))

    def _section(self, what: str, data: Mapping[str, Any]) -> RenderableType:
        if what == "rewards":
            return sections.rewards(data, self._roles)
        if what in _SECTIONS:
            return _SECTIONS[what][1](data)
        return sections.noted(data) if what == "note" else sections.unknown(what, data)

    def _print(self, part: RenderableType, *, wrap: bool = True) -> None:
        self._console.print(part, soft_wrap=not wrap)

    # ------------------------------------------------------------------------------------- footer

    def _footer_view(self) -> Live:
        return Live(
            console=self._console,
            refresh_per_second=REFRESHES,
            # A refresh in a notebook takes in what any thread prints meanwhile; the next one clears it.
            auto_refresh=not self._console.is_jupyter,
            transient=True,
            redirect_stdout=False,
            get_renderable=self._footer,
        )

    def _footer(self) -> RenderableType:
        if self._now is None:
            return Text("")
        rows: list[RenderableType] = [Text("")]
        if self._phases.present:
            rows.append(self._strip())
        if self._phases.present == "training" and self._training.steps:
            rows.append(self._bar())
        grid = Table.grid(padding=(0, 1))
        loading = self._phases.present == "training" and not self._training.steps
        now = LOADING if loading else self._now()
        self._spinner.update(text=Text(clean(now, self._console.width - 4)))
        grid.add_row(self._spinner)
        rows.append(grid)
        return Group(*rows)

    def _strip(self) -> RenderableType:
        strip = Text(no_wrap=False)
        for phase in STRIP:
            elapsed = self._phases.elapsed(phase)
            name = sections.PHASES[phase]
            if phase == self._phases.present:
                strip.append(f"{name} {duration(elapsed or 0.0)}", "bold cyan")
            else:
                present = self._phases.present
                passed = present in STRIP and STRIP.index(phase) < STRIP.index(present)
                long = f" {duration(elapsed)}" if elapsed is not None and elapsed >= 1 else ""
                strip.append(name + long, "green" if passed else "dim")
            strip.append(" > " if phase != STRIP[-1] else "", "dim")
        return strip

    def _bar(self) -> RenderableType:
        done = self._training
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_row(
            ProgressBar(total=done.steps, completed=done.step, width=30),
            f"epoch {done.epoch}/{done.epochs}",
            f"step {done.step}/{done.steps}",
            f"loss {sections.loss(done.loss)}",
            "" if done.accuracy is None else f"accuracy {share(done.accuracy)}",
        )
        return grid


_SECTIONS: dict[str, tuple[str, Callable[[Mapping[str, Any]], RenderableType]]] = {
    "answer": ("gathering", sections.answered),
    "retry": ("", sections.retried),
    "shared": ("gathering", sections.shared),
    "members": ("gathering", sections.members),
    "cycle": ("voting", sections.cycle),
    "committee": ("voting", sections.committee),
    "ranking": ("measuring", sections.ranking),
    "bound": ("ready", sections.bound),
    "ballots": ("ballots", sections.ballots),
    "order": ("ballots", sections.order),
    "trained": ("training", sections.trained),
    "scored": ("scoring", sections.scored),
}
"""The section that a report belongs to, and its form."""

"""What is loaded, how hard, by which way, and what is wanted of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from load.figures import OK

DIRECT, TLS, FORWARD = "direct", "tls", "forward"
SHAPES = ("1", "50", "500", "constant", "steps")
"""So many in flight, or so many a second, always or in four steps."""
READS = 0.85
"""Of the bare server's calls a second, for a unary read at 50 in flight."""


@dataclass(frozen=True)
class Scenario:
    """A configuration of ghz, and how it is used.

    Attributes:
        name: of the configuration, ``tests/load/NAME.json``.
        ways: by which its calls can reach a node.
        least: of the bare server's rate, by shape of load.
        rate: calls a second, for the shapes that have one: well below what a node answers.
        expected: status code of every call.
        forwarded: shapes of load through `forward`: what a node lets one peer do at a time.
    """

    name: str
    ways: tuple[str, ...] = (DIRECT, TLS)
    least: Mapping[str, float] = field(default_factory=dict)
    rate: int = 400
    expected: str = OK
    forwarded: tuple[str, ...] = ()

    @property
    def of_tasks(self) -> bool:
        """Whether it needs a task that is there."""
        return self.name in ("get", "list", "watch", "submit-again")

    def shapes(self, way: str) -> tuple[str, ...]:
        """How hard it is called."""
        return self.forwarded if way == FORWARD else SHAPES


EVERY_WAY = (DIRECT, TLS, FORWARD)
SCENARIOS = (
    Scenario("health", least={"50": READS}),
    Scenario("status", least={"50": READS}),
    Scenario("get", least={"50": READS}),
    Scenario("list", least={"50": READS}),
    Scenario("watch", rate=50),
    Scenario("validate", rate=10),
    Scenario("submit-invalid", rate=100, expected="InvalidArgument"),
    Scenario("submit-again", rate=100),
    # Two thirds of what the node does for an envelope is to read and to verify it.
    # A peer may hand in 1,000 envelopes a second, by 64 calls of Send or 4 streams at a time.
    Scenario("send", EVERY_WAY, forwarded=("1", "50", "constant", "steps")),
    Scenario("exchange", EVERY_WAY, rate=4, forwarded=("1",)),
)
SENT, SENT_SHORT = 20_000, 2_000
"""Envelopes for Send: as many as a run of a few seconds makes calls."""
SHORT = ("health", "status", "send")
"""What a short run has: calls that need no task."""


def options(shape: str, rate: int, seconds: float) -> list[str]:
    """What ghz is told of a shape of load, beside its configuration."""
    if shape == "constant":
        return ["--concurrency", "50", "--rps", str(rate), *_for(seconds)]
    if shape == "steps":
        steps = ("--load-start", str(rate // 4), "--load-step", str(rate // 4), "--load-end", str(rate))
        lasting = ("--load-step-duration", f"{seconds / 4:g}s", "--load-max-duration", f"{seconds:g}s")
        return ["--concurrency", "50", "--load-schedule", "step", *steps, *lasting, *_for(seconds)]
    return ["--concurrency", shape, *_for(seconds)]


def _for(seconds: float) -> tuple[str, ...]:
    return "--duration", f"{seconds:g}s"

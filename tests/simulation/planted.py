"""Known bugs, planted in the product's functions while a context lasts; the simulation must find each.

A plant changes some text of a function's source and swaps the compiled code in place, so that every table and
every import that holds the function has it. Run this file for the table: ``python
tests/simulation/planted.py``.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from mlnet.protocol import commands, evidence, machine, node
from mlnet.protocol.client import forming, training
from mlnet.protocol.client import machine as client
from mlnet.protocol.decisions import cluster, committee, rewards, segment_order
from mlnet.protocol.member import machine as member
from mlnet.protocol.member import state
from mlnet.protocol.member import training as trainingphase
from mlnet.simulation import effects
from mlnet.simulation.scenario import Run, Scenario


@dataclass(frozen=True)
class Plant:
    """A bug: where it sits, what is changed, under which faults it shows."""

    function: Callable[..., Any]
    right: str
    wrong: str
    faults: str


def getter(attribute: object) -> Callable[..., Any]:
    """The function behind a property."""
    assert isinstance(attribute, property)
    assert attribute.fget is not None
    return attribute.fget


PLANTS: dict[str, Plant] = {
    "a majority that half is enough for (order)": Plant(
        training.Order.work, "2 * len(agreeing) <= len", "2 * len(agreeing) < len", "loss"
    ),
    "a majority that half is enough for (rewards)": Plant(
        rewards.settled, "2 * agreeing > len", "2 * agreeing >= len", "hostile:result"
    ),
    "the client does not compare the digest": Plant(
        forming._unready, "announced.get(peer) != decision", "peer not in announced", "hostile:ready"
    ),
    "a phase without a deadline": Plant(
        machine.Machine.extend, "SetTimer(DEADLINE,", 'SetTimer("forgotten",', "calm"
    ),
    "a deadline that passes without effect": Plant(
        state.MemberState.give_up, "return self.withdraw", "return None and self.withdraw", "crashes"
    ),
    "the stall of training goes unnoticed": Plant(
        trainingphase.Training.late,
        'member.failure = f"training made',
        'return None; member.failure = f"training made',
        "effects",
    ),
    "a hash that is not checked": Plant(effects.verified, "content == digest", "True", "effects"),
    "segments outside the voted order": Plant(
        trainingphase.Links.work, "if member.seated and any(", "if member.failure and any(", "hostile-client"
    ),
    "a ballot that need not open": Plant(
        segment_order.opens,
        "return commitment(raw) == commitment_",
        "return raw != b'' or commitment_",
        "hostile:ballot",
    ),
    "a resend signed anew": Plant(machine.Machine.say, "if said is not None:", "if said is self:", "calm"),
    "what is signed is not forced to the disk": Plant(
        commands.speaks, "return any(", "return False and any(", "power"
    ),
    "ended tasks are forgotten by a restart": Plant(
        node.Node.__init__, "OrderedDict.fromkeys(ended)", "OrderedDict()", "reboots"
    ),
    "an ended member comes back with its journal": Plant(
        node.Node.restore,
        "if self.members[task].ended:",
        "if self.members[task].ended and not commands:",
        "reboots",
    ),
    "candidates with a closed port": Plant(
        cluster.Cluster.__init__, "if self.init(peer).redis.open", "if self.init(peer)", "effects"
    ),
    "a vote may leave too few": Plant(committee._count, "if len(kept) < least:", "if len(kept) < 1:", "calm"),
    "a word is sent again at every step": Plant(
        machine.Machine.say, "return said\n", "return self.forward(said, to, until=until) or said\n", "calm"
    ),
    "a split that loses its remainder": Plant(rewards.split, "[:left]", "[:0]", "calm"),
    "a receipt for everybody's part": Plant(
        trainingphase.await_client, "split.get(member.me, 0)", "sum(split.values())", "calm"
    ),
    "a busy node takes another task": Plant(
        getter(node.Node.busy), ">= self.terms.tasks", "> self.terms.tasks", "busy"
    ),
    "a refused message leaves a trace": Plant(
        member.Member._receive,
        "body = message.body",
        "body = message.body; self.evidence.add(message)",
        "hostile:usurp",
    ),
    "a result goes to those who do not read it": Plant(
        trainingphase.Completed.work, "member.say(body, [", "member.say(body, [*member.others, ", "calm"
    ),
    "contradictions do not void": Plant(
        evidence.Evidence.add,
        "self.proofs[sender] = (kept, message)",
        "return Verdict.KNOWN",
        "hostile:equivocate",
    ),
    "a restarted client binds anew": Plant(
        client.Client._restarted, "training.resume(self)", "choosing.name_members(self)", "crashes"
    ),
}


@contextmanager
def planted(plant: Plant) -> Iterator[None]:
    """Have the bug for as long as the context lasts."""
    function = plant.function
    assert isinstance(function, FunctionType)
    source = (
        textwrap.dedent(inspect.getsource(function))
        .removeprefix("@property\n")
        .removeprefix("@staticmethod\n")
    )
    assert source.count(plant.right) == 1, f"{function.__qualname__} does not hold {plant.right!r} once"
    scope: dict[str, Any] = {}
    exec(
        compile(source.replace(plant.right, plant.wrong), inspect.getfile(function), "exec"),
        function.__globals__,
        scope,
    )
    right = function.__code__
    function.__code__ = scope[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = right


def finds(plant: Plant, seed: int) -> str:
    """The invariant that a run with the bug breaks; empty if the run does not show it."""
    with planted(plant):
        return Run(Scenario(seed, plant.faults)).go().violation


if __name__ == "__main__":
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    sys.stdout.write(
        f"| planted bug | faults | found by, of {seeds} seeds | first | as |\n|---|---|---|---|---|\n"
    )
    for name, plant in PLANTS.items():
        found = {seed: invariant for seed in range(seeds) if (invariant := finds(plant, seed))}
        kinds = ", ".join(sorted(set(found.values())))
        first = str(min(found, default="-"))
        sys.stdout.write(f"| {name} | {plant.faults} | {len(found)} | {first} | {kinds} |\n")
        sys.stdout.flush()

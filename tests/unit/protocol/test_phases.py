"""The table of transitions in each machine's documentation says what its phases may return."""

from __future__ import annotations

import typing
from collections.abc import Callable
from enum import Enum
from types import ModuleType
from typing import Any, Literal

import pytest

from mlnet.protocol.client import machine as client
from mlnet.protocol.deadlines import Deadlines
from mlnet.protocol.machine import Machine, Phase
from mlnet.protocol.member import machine as member
from mlnet.protocol.phases import ClientPhase, MemberPhase

MACHINES = [
    pytest.param(member, member.Member, MemberPhase, id="member"),
    pytest.param(client, client.Client, ClientPhase, id="client"),
]
HEAD = ("phase", "leads to", "may take", "at its deadline")
WIDTHS = (13, 27, 51)


def follows(method: Callable[..., object]) -> list[Enum]:
    """The phases that a method may return, by its annotation."""
    returned = typing.get_type_hints(method)["return"]
    options = typing.get_args(returned) or (returned,)
    if typing.get_origin(returned) is Literal:
        return list(options)
    return [
        one for option in options if typing.get_origin(option) is Literal for one in typing.get_args(option)
    ]


def row(name: Enum, phase: Phase[Any]) -> str:
    leads, late = (", ".join(one.name for one in follows(m)) or "-" for m in (phase.work, phase.late))
    return line(name.name, leads, phase.limit.__doc__ or "", late)


def line(*cells: str) -> str:
    return "".join(cell.ljust(width) for cell, width in zip(cells, (*WIDTHS, 0), strict=True)).rstrip()


@pytest.mark.parametrize(("module", "machine", "names"), MACHINES)
def test_the_documentation_shows_the_transitions(
    module: ModuleType, machine: type[Machine], names: type[Enum]
) -> None:
    table = "\n".join(
        f"    {text}" for text in (line(*HEAD), *(row(name, phase) for name, phase in machine.phases.items()))
    )
    assert table in (module.__doc__ or ""), f"write this table:\n{table}"


@pytest.mark.parametrize(("module", "machine", "names"), MACHINES)
def test_every_phase_but_the_last_is_one_class(
    module: ModuleType, machine: type[Machine], names: type[Enum]
) -> None:
    classes = {type(phase) for phase in machine.phases.values()}
    assert len(classes) == len(machine.phases)
    assert [*machine.phases, names["ENDED"]] == list(names)


@pytest.mark.parametrize(("module", "machine", "names"), MACHINES)
def test_every_phase_ends_by_itself_when_nothing_happens(
    module: ModuleType, machine: type[Machine], names: type[Enum]
) -> None:
    """Along the deadlines alone every phase comes to the end; attempts are counted, so they end as well."""
    ends = {names["ENDED"]}
    for _ in machine.phases:
        ends |= {name for name, phase in machine.phases.items() if ends & {*follows(phase.late)}}
    assert ends == set(names)


def test_a_member_waits_longer_than_a_client_that_passes_evidence_on() -> None:
    """Otherwise members leave a cluster that the client is about to form anew."""
    for patience in (0.5, 1.0, 4.0):
        waits = Deadlines().scaled(patience)
        assert waits.grace > waits.ready
        assert waits.dataset > 2 * waits.ready

"""The events of the API as the reports that the display shows: the same look with a node and without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from mlnet.protocol.commands import Report
from mlnet.sdk import events
from mlnet.sdk.events import TaskEvent


def of(event: TaskEvent) -> Iterator[Report]:
    """What an event is to the display: any number of reports."""
    form = _FORMS.get(type(event))
    if form is not None:
        yield from form(event)


def _phase(event: events.PhaseEntered) -> Iterator[Report]:
    yield Report("phase", {"phase": event.phase, "waiting": event.waiting})


def _answer(event: events.NodeAnswered) -> Iterator[Report]:
    if event.refusal:
        yield Report("note", {"peer": event.peer, "reason": event.refusal})
    else:
        yield Report(
            "answer",
            {
                "peer": event.peer,
                "open": event.open,
                "host": event.host,
                "vote": event.vote,
                "reason": event.closed,
            },
        )


def _members(event: events.MembersChosen) -> Iterator[Report]:
    if event.reason:
        again = {"attempt": event.attempt, "without": event.without, "reason": event.reason}
        yield Report("retry", again)
    yield Report("members", {"attempt": event.attempt, "members": event.members})


def _vote(event: events.VoteCounted) -> Iterator[Report]:
    votes = {peer: int(vote) for peer, vote in event.votes.items() if vote in ("0", "1")}
    yield Report("cycle", {"number": event.cycle, "votes": votes, "kept": event.kept, "reason": event.reason})


def _committee(event: events.CommitteeElected) -> Iterator[Report]:
    yield Report("committee", {"committee": event.committee, "reason": event.reason})


def _pings(event: events.PingsRanked) -> Iterator[Report]:
    ranking: dict[str, object] = {
        "members": event.members,
        "matrix": tuple(tuple(map(_whole, row)) for row in event.matrix),
        "points": tuple(map(_whole, event.points)),
        "master": event.master,
        "slave": event.replica,
        "reason": event.reason,
    }
    yield Report("ranking", ranking)


def _bound(event: events.ClusterBound) -> Iterator[Report]:
    yield Report("bound", {"nodes": event.nodes, "committee": event.committee, "digest": event.decision})


def _order(event: events.OrderVoted) -> Iterator[Report]:
    if event.counted or event.uncounted:
        yield Report("ballots", {"counted": event.counted, "void": event.uncounted})
    yield Report("order", {"order": event.order, "held_out": event.held_out})


def _progress(event: events.TrainingAdvanced) -> Iterator[Report]:
    yield Report("progress", msgspec.structs.asdict(event.progress))


def _member(event: events.MemberChanged) -> Iterator[Report]:
    if event.change is not events.MemberChange.LOST:  # the next attempt says without whom it is
        yield Report("note", {"peer": event.peer, "reason": event.reason or str(event.change)})


def _model(event: events.ModelMade) -> Iterator[Report]:
    figures: dict[str, object] = {"accuracy": event.accuracy, "metrics": event.metrics}
    if event.scored:
        yield Report("scored", figures)
    else:
        yield Report("trained", {**figures, "sha256": event.sha256})


def _rewards(event: events.RewardsShared) -> Iterator[Report]:
    shared: dict[str, object] = {
        "payment": event.payment_micro,
        "split": event.split_micro,
        "settled": event.settled,
    }
    yield Report("rewards", shared)


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value


_FORMS: Mapping[type[TaskEvent], Callable[[Any], Iterator[Report]]] = {
    events.PhaseEntered: _phase,
    events.NodeAnswered: _answer,
    events.MembersChosen: _members,
    events.VoteCounted: _vote,
    events.CommitteeElected: _committee,
    events.PingsRanked: _pings,
    events.ClusterBound: _bound,
    events.OrderVoted: _order,
    events.TrainingAdvanced: _progress,
    events.MemberChanged: _member,
    events.ModelMade: _model,
    events.RewardsShared: _rewards,
}

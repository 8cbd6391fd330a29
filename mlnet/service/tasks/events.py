"""What a client's machine reports for people, as the typed events of the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mlnet.client.result import Result
from mlnet.protocol.commands import Report
from mlnet.util.wording import count
from mlnet.v1 import tasks_pb2 as pb

STATES: Mapping[str, pb.TaskState] = {
    "gathering": pb.TASK_STATE_GATHERING,
    "voting": pb.TASK_STATE_FORMING,
    "measuring": pb.TASK_STATE_FORMING,
    "ready": pb.TASK_STATE_FORMING,
    "ballots": pb.TASK_STATE_TRAINING,
    "order": pb.TASK_STATE_TRAINING,
    "training": pb.TASK_STATE_TRAINING,
    "failing": pb.TASK_STATE_TRAINING,
    "scoring": pb.TASK_STATE_FINISHING,
    "rewards": pb.TASK_STATE_FINISHING,
}
"""By phase of the protocol."""
REACHED: Mapping[str, pb.TaskState] = {
    "members": pb.TASK_STATE_FORMING,
    "bound": pb.TASK_STATE_TRAINING,
    "trained": pb.TASK_STATE_FINISHING,
}
"""By report: a phase is told only when the machine stays in it, and it may pass through several at once."""
ENDS: Mapping[str, pb.TaskState] = {
    "completed": pb.TASK_STATE_COMPLETED,
    "failed": pb.TASK_STATE_FAILED,
    "cancelled": pb.TASK_STATE_CANCELLED,
}
"""By state of a result."""
TERMINAL = frozenset(ENDS.values())
OF_THE_DRIVER = frozenset({"phase", "progress"})
"""Reports that are not of the machine, and do not come again when it is stepped through its journal."""
MAX_TEXT = 4000
"""Characters of a text in an event; nodes write some of them."""
Data = Mapping[str, Any]


class Translator:
    """Turns the reports of one task into events. What the API tells in one event may be several reports."""

    def __init__(self) -> None:
        self._answered: set[str] = set()
        self._retry: Data = {}
        self._ballots: Data = {}

    def events(self, report: Report) -> Iterator[pb.Event]:
        """The events that a report makes, without number, time and state; none for one that belongs to the
        next report, or to the end of the task."""
        data: Data = report.data
        special = {
            "answer": self._answer,
            "note": self._note,
            "retry": self._again,
            "members": self._members,
            "ballots": self._count,
            "order": self._order,
        }.get(report.what)
        if special is not None:
            yield from special(data)
        elif report.what in _PLAIN:
            yield _PLAIN[report.what](data)
        elif report.what != "phase":
            facts = ", ".join(f"{name} {value}" for name, value in data.items())
            yield notice(f"{report.what}: {facts}")
        elif data["phase"] in STATES:
            yield pb.Event(phase=pb.PhaseEntered(phase=data["phase"], waiting=data["waiting"]))

    def _answer(self, data: Data) -> Iterator[pb.Event]:
        self._answered.add(data["peer"])
        answer = pb.NodeAnswered(peer=data["peer"], open=data["open"], host=data["host"], vote=data["vote"])
        if not data["open"]:
            answer.closed = data["reason"][:MAX_TEXT]
        yield pb.Event(answer=answer)

    def _note(self, data: Data) -> Iterator[pb.Event]:
        peer, reason = data["peer"], data["reason"][:MAX_TEXT]
        if peer not in self._answered:
            yield pb.Event(answer=pb.NodeAnswered(peer=peer, refusal=reason))
        else:
            yield _changed(peer, pb.MEMBER_CHANGE_NOTED, reason)

    def _again(self, data: Data) -> Iterator[pb.Event]:
        self._retry = data
        for peer in data["without"]:
            yield _changed(peer, pb.MEMBER_CHANGE_LOST, data["reason"][:MAX_TEXT])

    def _members(self, data: Data) -> Iterator[pb.Event]:
        chosen = pb.MembersChosen(attempt=data["attempt"], members=data["members"])
        if self._retry:
            chosen.without.extend(self._retry["without"])
            chosen.reason = self._retry["reason"][:MAX_TEXT]
        self._retry = {}
        yield pb.Event(members=chosen)

    def _count(self, data: Data) -> Iterator[pb.Event]:
        self._ballots = data
        yield from ()

    def _order(self, data: Data) -> Iterator[pb.Event]:
        order = pb.OrderVoted(order=data["order"], held_out=data["held_out"])
        order.counted.extend(self._ballots.get("counted", ()))
        order.uncounted.extend(self._ballots.get("void", ()))
        yield pb.Event(order=order)


def notice(text: str) -> pb.Event:
    """Words for people."""
    return pb.Event(notice=pb.Notice(text=" ".join(text.split())[:MAX_TEXT]))


def ended(state: pb.TaskState, reason: str, code: str) -> pb.Event:
    """The end of a task."""
    reason = "" if state == pb.TASK_STATE_COMPLETED and not code else reason
    return pb.Event(ended=pb.TaskEnded(state=state, reason=reason[:MAX_TEXT], code=code))


def progress(data: Data) -> pb.Progress:
    """Where the training is."""
    names = ("epoch", "epochs", "step", "steps", "loss", "accuracy", "rank")
    return pb.Progress(**{name: data[name] for name in names if data.get(name) is not None})


def result(done: Result, model_size: int) -> pb.TaskResult:
    """What a task ended in."""
    return pb.TaskResult(
        validation_accuracy=done.accuracy.validation,
        held_out_accuracy=done.accuracy.held_out,
        metrics=done.metrics,
        model_size=model_size,
        model_sha256=done.model.sha256 if done.model else "",
        attested_sha256=done.model.attested if done.model else "",
        payment_micro=done.payment,
        rewards_micro=done.rewards,
        committee=done.committee,
        master=done.master,
        replica=done.slave,
        segments=done.segments,
        held_out=done.held_out,
        seconds=done.seconds,
    )


def _changed(peer: str, change: pb.MemberChange, reason: str) -> pb.Event:
    return pb.Event(member=pb.MemberChanged(peer=peer, change=change, reason=reason))


def _shared(data: Data) -> pb.Event:
    others = count(data["others"], "other client")
    return notice(
        f"{others} gathering nodes, too:"
        f" this task takes {data['taken']} of the {data['answered']} that answered"
    )


def _cycle(data: Data) -> pb.Event:
    votes = {peer: str(vote) for peer, vote in data["votes"].items()}
    counted = pb.VoteCounted(
        cycle=data["number"], votes=votes, kept=data["kept"], reason=data["reason"][:MAX_TEXT]
    )
    return pb.Event(vote=counted)


def _committee(data: Data) -> pb.Event:
    return pb.Event(committee=pb.CommitteeElected(committee=data["committee"], reason=data["reason"]))


def _ranking(data: Data) -> pb.Event:
    rows: Sequence[Sequence[float]] = data["matrix"]
    ranked = pb.PingsRanked(
        members=data["members"],
        matrix=[pb.PingRow(microseconds=row) for row in rows],
        points=data["points"],
        master=data["master"],
        replica=data["slave"],
        reason=data["reason"][:MAX_TEXT],
    )
    return pb.Event(pings=ranked)


def _bound(data: Data) -> pb.Event:
    bound = pb.ClusterBound(nodes=data["nodes"], committee=data["committee"], decision=data["digest"])
    return pb.Event(bound=bound)


def _trained(data: Data) -> pb.Event:
    made = pb.ModelMade(accuracy=data["accuracy"], metrics=data["metrics"], sha256=data["sha256"])
    return pb.Event(model=made)


def _scored(data: Data) -> pb.Event:
    return pb.Event(model=pb.ModelMade(scored=True, accuracy=data["accuracy"], metrics=data["metrics"]))


def _rewards(data: Data) -> pb.Event:
    shared = pb.RewardsShared(
        payment_micro=data["payment"], split_micro=data["split"], settled=data["settled"]
    )
    return pb.Event(rewards=shared)


_PLAIN: Mapping[str, Callable[[Data], pb.Event]] = {
    "progress": lambda data: pb.Event(progress=progress(data)),
    "shared": _shared,
    "cycle": _cycle,
    "committee": _committee,
    "ranking": _ranking,
    "bound": _bound,
    "trained": _trained,
    "scored": _scored,
    "rewards": _rewards,
}

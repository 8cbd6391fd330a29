"""Reports of the client's machine as typed events."""

from __future__ import annotations

import ast
from pathlib import Path

import mlnet
from mlnet.protocol.commands import Report
from mlnet.protocol.phases import ClientPhase
from mlnet.service.tasks import events
from mlnet.service.tasks.events import Translator
from mlnet.service.tasks.thinning import DOUBLES_AFTER, STEP_MS, Thinning
from mlnet.v1 import tasks_pb2 as pb

A, B, C = "peer-a", "peer-b", "peer-c"
FULL: dict[str, dict[str, object]] = {
    "answer": {"peer": A, "open": False, "host": "", "vote": 1, "reason": "refused"},
    "note": {"peer": A, "reason": "busy"},
    "retry": {"attempt": 2, "without": (B,), "reason": "did not vote in time"},
    "members": {"attempt": 2, "members": (A, C)},
    "shared": {"others": 2, "answered": 9, "taken": 3},
    "cycle": {"number": 1, "votes": {A: 0, B: 1, C: 1}, "kept": (A,), "reason": "the minority stays"},
    "committee": {"committee": (A, C), "reason": "as many as seats"},
    "ranking": {
        "members": (A, C),
        "matrix": ((0, 90), (80, 0)),
        "points": (3, 1),
        "master": A,
        "slave": C,
        "reason": "Borda",
    },
    "bound": {"nodes": (A, C), "committee": (A, C), "digest": "ab" * 32},
    "ballots": {"counted": (A,), "void": (C,)},
    "order": {"order": ("1" * 64, "2" * 64), "held_out": ("2" * 64,)},
    "trained": {"accuracy": 0.9, "metrics": {"Accuracy": 0.9}, "sha256": "cd" * 32},
    "scored": {"accuracy": None, "metrics": {"MSE": 0.5}, "path": "/m"},
    "rewards": {"payment": 10, "split": {A: 6, C: 4}, "settled": True},
    "phase": {"phase": "voting", "waiting": "votes"},
    "progress": {"epoch": 1, "epochs": 2, "step": 3, "steps": 4, "loss": None, "accuracy": 0.5, "rank": 0},
}


def translated(*whats: str) -> list[pb.Event]:
    translator = Translator()
    return [event for what in whats for event in translator.events(Report(what, FULL[what]))]


def reports_in_source() -> set[str]:
    """What the client's machine and driver report, by a look at the calls."""
    found = set()
    package = Path(mlnet.__file__).parent
    for path in (*(package / "protocol" / "client").glob("*.py"), *(package / "client").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if name in ("report", "Report"):
                    found.add(str(node.args[0].value))
    return found


def test_every_report_has_a_case_here_and_becomes_an_event_with_a_type() -> None:
    assert reports_in_source() == set(FULL)
    for what in FULL:
        # Those that are told in one event with the next one.
        follows = {"ballots": "order", "retry": "members"}.get(what, what)
        (*_, event) = translated(*dict.fromkeys((what, follows)))
        assert event.WhichOneof("kind") != "notice" or what == "shared", what


def test_an_answer_says_why_the_port_is_closed_and_how_the_node_votes() -> None:
    (event,) = translated("answer")
    assert event.answer == pb.NodeAnswered(peer=A, open=False, closed="refused", vote=1)


def test_a_note_is_a_refusal_before_an_answer_and_a_word_of_a_member_after_it() -> None:
    refusal, _, word = translated("note", "answer", "note")
    assert refusal.answer == pb.NodeAnswered(peer=A, refusal="busy")
    assert word.member == pb.MemberChanged(peer=A, change=pb.MEMBER_CHANGE_NOTED, reason="busy")


def test_another_attempt_names_those_left_out_and_why() -> None:
    lost, chosen = translated("retry", "members")
    assert lost.member == pb.MemberChanged(
        peer=B, change=pb.MEMBER_CHANGE_LOST, reason="did not vote in time"
    )
    assert list(chosen.members.without) == [B]
    assert chosen.members.reason == "did not vote in time"


def test_an_order_names_the_ballots_that_counted() -> None:
    (event,) = translated("ballots", "order")
    assert (list(event.order.counted), list(event.order.uncounted)) == ([A], [C])


def test_values_that_are_not_there_are_absent() -> None:
    (event,) = translated("progress")
    assert not event.progress.HasField("loss")
    assert event.progress.accuracy == 0.5
    (event,) = translated("scored")
    assert event.model.scored
    assert not event.model.HasField("accuracy")


def test_the_end_of_the_machine_is_told_when_the_result_is_kept() -> None:
    assert list(Translator().events(Report("phase", {"phase": "ended", "waiting": ""}))) == []


def test_a_report_that_nobody_knows_is_shown_in_words() -> None:
    (event,) = Translator().events(Report("omen", {"sign": "a comet"}))
    assert event.notice.text == "omen: sign a comet"


def test_texts_of_others_are_bounded() -> None:
    (event,) = Translator().events(Report("note", {"peer": A, "reason": "x" * 100_000}))
    assert len(event.answer.refusal) == events.MAX_TEXT


def test_every_phase_has_a_state_and_states_never_go_back_in_the_order_of_phases() -> None:
    states = [events.STATES[phase.value] for phase in ClientPhase if phase is not ClientPhase.ENDED]
    assert states == sorted(states)


def test_a_day_of_progress_fits_into_what_is_kept() -> None:
    thinning, kept = Thinning(), 0
    for now in range(0, 24 * 3600 * 1000, 500):
        kept += thinning.admits(pb.Event(), now)
    assert 5 * DOUBLES_AFTER < kept < 11_000


def test_the_first_minutes_of_progress_are_all_kept() -> None:
    thinning = Thinning()
    assert all(thinning.admits(pb.Event(), number * STEP_MS) for number in range(DOUBLES_AFTER))


def test_the_latest_progress_is_kept_before_something_else_happens() -> None:
    thinning = Thinning()
    thinning.restore(10 * DOUBLES_AFTER)
    assert thinning.admits(pb.Event(revision=1), 0)
    assert thinning.rest() is None
    assert not thinning.admits(pb.Event(revision=2), 100)
    assert not thinning.admits(pb.Event(revision=3), 200)
    assert thinning.rest() == pb.Event(revision=3)
    assert thinning.rest() is None

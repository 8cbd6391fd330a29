"""What a task's course looks like: every report of real machines, hostile text, the footer."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import pytest
from support.protocol_world import World

from mlnet.client.result import Accuracy, ModelFile, Result
from mlnet.protocol.commands import Report
from mlnet.sdk.display import Display
from mlnet.util.wording import short


class Screen(io.StringIO):
    """A terminal that remembers."""

    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(reports: list[Report], *, width: int = 110) -> str:
    stream = io.StringIO()
    with Display(stream, width=width) as display:
        for report in reports:
            display.report(report)
    return stream.getvalue()


def course(world: World, client: str = "client") -> list[Report]:
    """What a client's machine reported."""
    return [command for name, command in world.log if name == client and isinstance(command, Report)]


def finished(nodes: int = 5, cluster: str = "max-nodes: 64", closed: tuple[int, ...] = ()) -> World:
    world = World(nodes, cluster, closed=closed)
    world.submit()
    world.run()
    return world


def after(text: str, start: str) -> str:
    """The line that follows the beginning of a text."""
    found = [line for line in text.splitlines() if start in line]
    assert found, f"{start!r} is not in:\n{text}"
    return found[0]


def progress(epoch: int, epochs: int, step: int, steps: int, **figures: float | int) -> Report:
    data: dict[str, object] = {
        "epoch": epoch,
        "epochs": epochs,
        "step": step,
        "steps": steps,
        "loss": None,
        "accuracy": None,
        "rank": 0,
        **figures,
    }
    return Report("progress", data)


def test_a_whole_task_is_told_from_the_first_answer_to_the_reward() -> None:
    world = finished()
    text = shown(course(world))
    for number, title in enumerate(
        ("Gather", "Committee", "Database", "Ready", "Dataset", "Training", "Model", "Reward"), start=1
    ):
        assert f"\n{number}  {title}  " in text
    assert text.count("  vote sealed") == 5
    assert "cluster of 5 nodes" in text
    client = world.client(world.clients[0])
    decided = client.attempted.decision().ready
    assert "Redis master" in after(text, f"   {short(decided.master)}  ")
    assert "Redis slave" in after(text, f"   {short(decided.slave)}  ")
    for digest in client.held_out:
        assert digest[:8] in after(text, "   held back")
    for digest in client.order[:8]:
        assert digest[:8] in after(text, "   train     ")
    assert "accuracy 90.00 % on the validation split" in " ".join(text.split())
    assert "accuracy 88.00 % on the held-back segments" in " ".join(text.split())
    assert after(text, "   sum").split() == ["sum", "100"]
    assert "settled: signed by the client" in text


def test_every_report_of_a_client_has_a_form_of_its_own() -> None:
    worlds = [finished(), finished(4, "max-committee-size: 2"), finished(3, closed=(1,)), finished(1)]
    for report in [report for world in worlds for report in course(world)]:
        without_form = shown([Report("something else", report.data)]).partition(": ")[2]
        assert without_form not in shown([report])


def test_no_line_is_longer_than_the_terminal() -> None:
    for line in shown(course(finished()), width=100).splitlines():
        assert len(line) <= 100


def test_the_votes_of_each_cycle_are_shown_with_what_they_decide() -> None:
    world = finished(6, "max-committee-size: 2")
    cycles = [report for report in course(world) if report.what == "cycle"]
    assert len(cycles) > 1
    text = shown(cycles)
    for report in cycles:
        votes = report.data["votes"]
        assert isinstance(votes, Mapping)
        number, reason = report.data["number"], str(report.data["reason"])
        zeros = [short(peer) for peer, vote in votes.items() if vote == 0] or ["nobody"]
        assert after(text, f"cycle {number}").split() == ["cycle", str(number), "0:", *zeros]
        assert reason in text


def test_a_closed_port_is_shown_with_its_reason() -> None:
    text = shown(course(finished(3, closed=(0,))))
    assert text.count("port closed: behind a firewall") == 1
    assert text.count("port open at 127.0.0.1") == 2


def test_a_new_attempt_names_who_is_left_out_and_the_sections_come_again() -> None:
    world = World(4)
    victim = world.nodes[0]
    world.loses = lambda sender, _, message: (
        sender == "node0" and message.type == "CLUSTER_DATABASE_SELECTION"
    )
    world.submit()
    world.run()
    text = shown(course(world))
    assert f"!  attempt 2, without {short(victim)}: did not send its ping times in time" in text
    assert "cluster of 3 nodes (attempt 2)" in text
    assert text.count("2  Committee") == 2
    assert text.count("1  Gather") == 1


def test_a_committee_too_large_for_a_matrix_is_shown_by_its_points() -> None:
    world = finished(12, "max-committee-size: 12")
    ranking = next(report for report in course(world) if report.what == "ranking")
    text = shown([ranking])
    assert len([line for line in text.splitlines() if line.rstrip().endswith(("master", "slave"))]) == 2
    assert "Borda points" in text
    assert " . " not in text


def test_an_unreachable_member_is_lost_in_the_matrix() -> None:
    data: dict[str, object] = {
        "members": ("a" * 52, "b" * 52),
        "matrix": ((0, -1), (-1, 0)),
        "points": (0, 0),
        "master": "",
        "slave": "",
        "reason": "0 of 2 committee members can be reached, 2 needed",
    }
    text = shown([Report("ranking", data)])
    assert after(text, "   aaaaaa").split() == ["aaaaaa", ".", "lost", "0"]
    assert "2 needed" in text


def test_an_epoch_is_shown_with_the_figures_of_its_end() -> None:
    reports = [
        progress(1, 2, 9, 20, loss=0.9),
        progress(1, 2, 10, 20, loss=0.5, accuracy=0.75),
        progress(2, 2, 20, 20, loss=0.001),
        progress(2, 2, 20, 20, loss=0.25, accuracy=0.875),
        Report("trained", {"accuracy": 0.875, "metrics": {}, "sha256": "ab" * 32}),
    ]
    lines = [line.split() for line in shown(reports).splitlines() if "epoch" in line]
    assert lines == [
        ["epoch", "1", "of", "2", "loss", "0.5000", "accuracy", "75.00", "%"],
        ["epoch", "2", "of", "2", "loss", "0.2500", "accuracy", "87.50", "%"],
    ]


def test_a_long_training_has_about_ten_lines_the_first_and_the_last_among_them() -> None:
    reports = [progress(epoch, 300, epoch, 300, loss=1 / epoch) for epoch in range(1, 301)]
    reports.append(Report("trained", {"accuracy": None, "metrics": {"MSE": 0.5}, "sha256": "ab" * 32}))
    lines = [line for line in shown(reports).splitlines() if " of 300" in line]
    assert len(lines) == 11
    assert lines[0].split()[1] == "1"
    assert lines[-1].split()[1] == "300"


def test_other_ranks_move_the_steps_and_not_the_figures() -> None:
    screen = Screen()
    display = Display(screen, live=True, width=100)
    display.enter("training")
    display.report(progress(1, 4, 10, 40, loss=0.5))
    display.report(progress(1, 4, 12, 40, loss=99.0, rank=3))
    with display, display.following(lambda: "waits"):
        pass
    text = screen.getvalue()
    assert "step 12/40" in text
    assert "loss 0.5000" in text


@pytest.mark.parametrize(
    "report",
    [
        Report("note", {"peer": "x" * 52, "reason": "\x1b[2Jfine\rgone\nnext\u202e[bold]x[/bold]"}),
        Report(
            "answer",
            {"peer": "x" * 52, "open": False, "host": "\x1b]0;t\x07", "vote": 1, "reason": "\x1b[2J[red]"},
        ),
        Report("retry", {"attempt": 2, "without": ("x" * 52,), "reason": "\x1b[31m\x9b"}),
        Report("trained", {"accuracy": None, "metrics": {"\x1b[2J": 1.0}, "sha256": "ab" * 32}),
    ],
    ids=lambda report: report.what,
)
def test_text_of_others_cannot_move_the_cursor(report: Report) -> None:
    text = shown([report])
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_text_of_others_is_no_markup() -> None:
    assert "[bold]loud[/bold]" in shown([Report("note", {"peer": "x" * 52, "reason": "[bold]loud[/bold]"})])


def test_long_text_of_others_is_cut() -> None:
    assert len(shown([Report("note", {"peer": "x" * 52, "reason": "y" * 2000})])) < 700


def test_peer_ids_in_reasons_are_names() -> None:
    peer = World(1).nodes[0]
    text = shown([Report("note", {"peer": peer, "reason": f"{peer} is gone"})])
    assert text.split() == ["-", short(peer), short(peer), "is", "gone"]


def test_the_footer_shows_phases_with_their_time_and_what_is_awaited() -> None:
    screen, clock = Screen(), Clock()
    display = Display(screen, live=True, width=100, clock=clock)
    display.enter("gathering")
    clock.now = 65.0
    display.enter("voting")
    clock.now = 68.2
    with display, display.following(lambda: "waits for \x1b[2Jvotes"):
        pass
    text = screen.getvalue()
    assert "gather 1:05" in text
    assert "vote 3.2 s" in text
    assert "waits for ?[2Jvotes" in text


def test_before_its_first_step_the_footer_says_why_training_takes_so_long() -> None:
    screen = Screen()
    display = Display(screen, live=True, width=100)
    display.enter("training")
    with display, display.following(lambda: "waits for TRAINING_COMPLETED"):
        pass
    assert "load PyTorch" in screen.getvalue()


def test_a_task_that_is_taken_up_again_still_knows_the_roles() -> None:
    world = finished()
    ready = world.client(world.clients[0]).attempted.decision().ready
    rewards = next(report for report in course(world) if report.what == "rewards")
    stream = io.StringIO()
    with Display(stream, width=110) as display:
        display.decided(ready)
        display.report(rewards)
    assert "committee, master" in after(stream.getvalue(), f"   {short(ready.master)}  ")
    assert "committee, slave" in after(stream.getvalue(), f"   {short(ready.slave)}  ")


def test_without_a_terminal_nothing_but_lines_is_written() -> None:
    stream = io.StringIO()
    with Display(stream) as display, display.following(lambda: "waits"):
        display.enter("gathering")
        display.say("a line")
    assert "\x1b" not in stream.getvalue()
    assert "waits" not in stream.getvalue()
    assert "   a line\n" in stream.getvalue()


def test_the_end_names_the_model_both_figures_and_the_time_of_each_phase() -> None:
    result = Result(
        task="cd" * 32,
        state="completed",
        accuracy=Accuracy(0.95, 0.9375),
        metrics={"Accuracy": 0.9375, "CrossEntropy": 0.21},
        model=ModelFile("/somewhere/model.safetensors", "ef" * 32),
        seconds={"training": 30.0, "gathering": 10.0, "other": 0.0},
    )
    text = written(lambda display: display.result(result))
    assert "Done  task cdcdcdcdcdcd has its model" in text
    assert "95.00 % validation, 93.75 % held back" in text
    assert "0.2100 held back" in text
    assert "/somewhere/model.safetensors" in text
    assert "ef" * 32 in text
    phases = [line.split() for line in text.splitlines() if line.startswith("   ") and " s" in line]
    assert [phase[:3] for phase in phases] == [
        ["gather", "10", "s"],
        ["train", "30", "s"],
        ["other", "0.0", "s"],
        ["in", "all", "40"],
    ]
    assert len(phases[1][3]) == 3 * len(phases[0][3]) - 2  # 22 and 8 of 30


def test_a_failure_says_that_there_is_no_model() -> None:
    result = Result(task="cd" * 32, state="failed", reason="why", code="TooFewNodes")
    assert "Failed  task cdcdcdcdcdcd has no model" in written(lambda display: display.result(result))


def test_verbatim_text_keeps_its_lines_and_loses_its_controls() -> None:
    text = written(lambda display: display.verbatim("type: A\n  body: \x1b[2J" + "z" * 200 + "\n"))
    assert text == "type: A\n  body: ?[2J" + "z" * 200 + "\n"


def written(act: Callable[[Display], object]) -> str:
    stream = io.StringIO()
    with Display(stream) as display:
        act(display)
    return stream.getvalue()

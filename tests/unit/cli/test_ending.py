"""How a command that carries out a task ends: exit code, JSON document, last line."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from mlnet.cli.controls import Controls, Interrupted
from mlnet.cli.ending import carry_out
from mlnet.client.result import Accuracy, ModelFile, Result
from mlnet.errors import MlnetError, PeerUnreachable, TaskError
from mlnet.sdk.display import Display

DONE = Result(
    task="ab" * 32,
    state="completed",
    accuracy=Accuracy(0.9, 0.8),
    payment=5,
    rewards={"one": 3, "two": 2},
    model=ModelFile("/somewhere/model.safetensors", "cd" * 32),
)

Command = Callable[[Display, Controls], Awaitable[Result]]


def ends(result: Result, *, interrupted: bool = False) -> Command:
    async def command(_: Display, controls: Controls) -> Result:
        controls.interrupted = interrupted
        return result

    return command


def breaks(error: Exception) -> Command:
    async def command(_: Display, __: Controls) -> Result:
        raise error

    return command


def test_a_model_is_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert carry_out(ends(DONE), json=False) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "Done" in err
    assert "error" not in err


@pytest.mark.parametrize("json_wanted", [True, False])
def test_json_is_one_document_and_alone_on_standard_output(
    capfd: pytest.CaptureFixture[str], json_wanted: bool
) -> None:
    carry_out(ends(DONE), json=json_wanted)
    out = capfd.readouterr().out
    if not json_wanted:
        assert out == ""
        return
    assert msgspec.convert(json.loads(out), Result) == DONE


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("TooFewNodes", 32), ("NoCommittee", 33), ("NodeLost", 34), ("TrainingError", 30), ("nonsense", 31)],
)
def test_a_failed_task_ends_with_the_code_of_its_failure(
    capfd: pytest.CaptureFixture[str], code: str, exit_code: int
) -> None:
    failed = Result(task="ab" * 32, state="failed", reason="the reason", code=code)
    assert carry_out(ends(failed), json=True) == exit_code
    out, err = capfd.readouterr()
    assert json.loads(out)["reason"] == "the reason"
    assert err.splitlines()[-1] == "mlnet-node: error: the reason"


def test_a_task_that_its_user_cancels_ends_with_130(capfd: pytest.CaptureFixture[str]) -> None:
    cancelled = Result(task="ab" * 32, state="cancelled", reason="cancelled by the user")
    assert carry_out(ends(cancelled, interrupted=True), json=True) == 130
    out, err = capfd.readouterr()
    assert json.loads(out)["state"] == "cancelled"
    assert err.splitlines()[-1] == "mlnet-node: cancelled by the user"


def test_a_task_that_completes_although_its_user_gave_up_is_success() -> None:
    assert carry_out(ends(DONE, interrupted=True), json=False) == 0


@pytest.mark.parametrize(
    "error", [PeerUnreachable("no peer answered"), TaskError("ml.tau", "is not known", "leave it out")]
)
def test_a_task_that_never_began_has_a_document_too(
    capfd: pytest.CaptureFixture[str], error: MlnetError
) -> None:
    assert carry_out(breaks(error), json=True) == error.exit_code
    out, err = capfd.readouterr()
    found = msgspec.convert(json.loads(out), Result)
    assert (found.task, found.state, found.reason) == ("", "failed", str(error))
    assert found.code == type(error).__name__
    assert err.splitlines() == [f"mlnet-node: error: {error}"]


def test_a_user_who_left_gets_130_and_a_document(capfd: pytest.CaptureFixture[str]) -> None:
    assert carry_out(breaks(Interrupted("left by the user")), json=True) == 130
    out, err = capfd.readouterr()
    assert json.loads(out)["reason"] == "left by the user"
    assert err.splitlines() == ["mlnet-node: left by the user"]


def test_a_bug_is_not_taken_for_a_failed_task() -> None:
    with pytest.raises(ZeroDivisionError):
        carry_out(breaks(ZeroDivisionError()), json=True)

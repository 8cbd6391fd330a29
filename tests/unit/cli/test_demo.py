"""The demonstration: what becomes of a node that does not start, and of the result."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mlnet.cli.controls import Controls, Job
from mlnet.cli.demo import _failure, _with_start, demonstrate
from mlnet.client.result import ModelFile, Result
from mlnet.errors import ConfigError, MlnetError, NoRedisBinary, TaskError
from mlnet.sdk.display import Display


@pytest.mark.parametrize(
    ("status", "kind"),
    [(26, NoRedisBinary), (3, ConfigError), (1, MlnetError), (-9, MlnetError), (10, MlnetError)],
)
def test_a_node_that_does_not_start_ends_the_demonstration_with_its_own_code(
    status: int, kind: type[MlnetError]
) -> None:
    error = _failure(2, status, "a warning\nmlnet-node: error: no server found; install one")
    assert type(error) is kind
    assert str(error) == "node 2 did not start: no server found; install one"


def test_a_node_that_says_nothing() -> None:
    assert str(_failure(1, -9, "")) == "node 1 did not start: it ended with status -9"
    assert "did not listen within 60 s" in str(_failure(1, None, ""))


def test_the_time_to_start_is_the_first_phase_also_in_the_file(tmp_path: Path) -> None:
    model = ModelFile(str(tmp_path / "model.safetensors"), "ab" * 32)
    result = _with_start(Result(task="t", state="completed", model=model, seconds={"training": 2.0}), 1.23456)
    assert list(result.seconds.items()) == [("starting", 1.235), ("training", 2.0)]
    assert msgspec.json.decode((tmp_path / "result.json").read_bytes(), type=Result) == result


def test_a_failed_task_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _with_start(Result(task="t", state="failed"), 1.0).seconds == {"starting": 1.0}
    assert list(tmp_path.iterdir()) == []


async def test_a_wrong_definition_is_found_before_anything_is_started(tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text("version: 1")
    controls = Controls(lambda _: None, lambda: None)
    with pytest.raises(TaskError):
        await demonstrate(Job(file), 5, Display(), controls)
    assert controls.doing() == ""

"""What the training loop refuses before it meets anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.datasets import definition

from mlnet.data import split
from mlnet.errors import DataError, HashMismatch, TrainingError
from mlnet.task import definition as task_definition
from mlnet.training.child import explain
from mlnet.training.ipc import TrainJob
from mlnet.training.loop import train


def plan(tmp_path: Path, **changes: Any) -> TrainJob:
    dataset = split(definition(), tmp_path, tmp_path)
    return TrainJob(
        definition=task_definition.to_plain(definition()),
        seed="seed",
        rank=0,
        world=1,
        segments=dataset.segments[:8],
        files=tuple(map(str, dataset.files[:8])),
        inputs=64,
        host="127.0.0.1",
        endpoints=(),
        task="0" * 64,
        attempt=1,
        output=str(tmp_path / "model"),
        **changes,
    )


def replaced(plan: TrainJob, index: int, file: Path | None) -> TrainJob:
    """The plan with another file for one of its segments."""
    files = list(plan.files)
    files[index] = None if file is None else str(file)
    return msgspec.structs.replace(plan, files=tuple(files))


def counted(plan: TrainJob, index: int, rows: int) -> TrainJob:
    """The plan with another number of rows of one of its segments."""
    segments = list(plan.segments)
    segments[index] = msgspec.structs.replace(segments[index], rows=rows)
    return msgspec.structs.replace(plan, segments=tuple(segments))


def test_the_operators_limit_of_parameters(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="1210 parameters, more than this node's limit of 1000"):
        train(plan(tmp_path, max_parameters=1000), lambda progress: None)


def test_a_segment_that_was_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has not been fetched"):
        train(replaced(plan(tmp_path), 2, None), lambda progress: None)


def test_a_segment_with_another_hash(tmp_path: Path) -> None:
    made = plan(tmp_path)
    with pytest.raises(HashMismatch, match=made.segments[3].root):
        train(replaced(made, 3, Path(made.files[2] or "")), lambda progress: None)


def test_a_segment_of_other_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="features is F32"):
        train(counted(plan(tmp_path), 0, 5), lambda progress: None)


def test_a_segment_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a segment of the task has no rows"):
        train(counted(plan(tmp_path), 0, 0), lambda progress: None)


def test_a_segment_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        train(replaced(plan(tmp_path), 0, tmp_path / "gone"), lambda progress: None)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("[pair.cc:547] Connection closed by peer [10.0.0.1]:99\nmore"), "was lost"),
        (RuntimeError("[buffer.cc:78] Timed out waiting 3000ms for recv"), "went silent"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
        (MemoryError(), "not enough memory"),
        (ValueError("something else"), "training failed: something else"),
    ],
)
def test_errors_of_torch_in_the_users_words(error: Exception, message: str) -> None:
    text = explain(error)
    assert message in text
    assert "\n" not in text

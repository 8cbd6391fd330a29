"""Ranks as real processes that meet over a real Redis server and train over gloo."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import torch
from support.datasets import definition, torch_arguments
from torch.nn import functional

from mlnet.data import Dataset, read_segment, split
from mlnet.data.segments import permutation
from mlnet.errors import DataError, TrainingError
from mlnet.store import ProgressLog, RedisServer, find_binary
from mlnet.task import definition as task_definition
from mlnet.task.layers import DenseLayer
from mlnet.task.schema import Initializer, TaskDefinition
from mlnet.training import architecture, partition
from mlnet.training.architecture import Architecture
from mlnet.training.ipc import Finished, TrainingProgress, TrainJob
from mlnet.training.model import Model, build, load_model, save_model
from mlnet.training.process import Trainer

TASK = "5" * 64
SEED = "a seed"
HOSTS = ("127.0.0.5", "127.0.0.4", "127.0.0.3", "127.0.0.2", "127.0.0.1")
SGD = {
    "type": "SGD",
    "optimizer_initialization_parameters": {"learning_rate": 0.01, "momentum": 0.9},
    "epochs": 2,
    "batch-size": 100,
}
ADAM = {
    "type": "Adam",
    "optimizer_initialization_parameters": {"learning_rate": 1e-3},
    "epochs": 2,
    "batch-size": 100,
}
pytestmark = pytest.mark.timeout(180)


@pytest_asyncio.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    directory = tmp_path / "redis"
    directory.mkdir(mode=0o700)
    server = await RedisServer.start(
        find_binary(None), directory, task=TASK, ports=None, max_memory=64 << 20, host="127.0.0.1"
    )
    try:
        yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def trainers(count: int, **options: Any) -> AsyncIterator[list[Trainer]]:
    """Children that are ended whatever happens."""
    children = [await Trainer.start(**options) for _ in range(count)]
    try:
        await asyncio.gather(*(child.ready() for child in children))
        yield children
    finally:
        await asyncio.gather(*(child.stop() for child in children))


def plans(
    work: Path, world: int, definition: TaskDefinition, dataset: Dataset, endpoint: Path, **changes: Any
) -> list[TrainJob]:
    chosen = dataset.segments[: definition.training_segments]
    rows = [segment.rows for segment in chosen]
    return [
        TrainJob(
            definition=task_definition.to_plain(definition),
            seed=SEED,
            rank=rank,
            world=world,
            segments=chosen,
            files=tuple(
                str(dataset.files[index]) if index in partition.segments_of(rows, rank, world) else None
                for index in range(len(chosen))
            ),
            inputs=dataset.inputs,
            host=HOSTS[rank],
            endpoints=(str(endpoint),),
            task=TASK,
            attempt=1,
            output=str(work / f"model-{rank}"),
            **{"rendezvous_timeout_s": 60.0, "step_timeout_s": 30.0} | changes,
        )
        for rank in range(world)
    ]


async def run(trainer: Trainer, plan: TrainJob) -> tuple[list[TrainingProgress], Finished]:
    progress: list[TrainingProgress] = []
    async for event in trainer.run(plan):
        if isinstance(event, Finished):
            return progress, event
        assert isinstance(event, TrainingProgress)
        progress.append(event)
    raise AssertionError("ended without Finished")


def rows_of(dataset: Dataset, definition: TaskDefinition) -> tuple[torch.Tensor, torch.Tensor]:
    model = definition.ml.model
    tables = [
        read_segment(
            file,
            inputs=dataset.inputs,
            outputs=model.outputs,
            classes=model.loss == "CrossEntropy",
        )
        for file in dataset.files[: definition.training_segments]
    ]
    features = np.concatenate([table.features for table in tables])
    labels = np.concatenate([table.labels for table in tables])
    return torch.from_numpy(features), torch.from_numpy(labels)


def alone(definition: TaskDefinition, dataset: Dataset, world: int) -> Model:
    """One machine, one process, no DistributedDataParallel: the same rows in the same steps."""
    features, labels = rows_of(dataset, definition)
    optimization = definition.ml.optimizer
    model = build(
        architecture.of_definition(definition, dataset.inputs),
        optimization.initializer,
        partition.seed(SEED, "weights"),
    )
    optimizer = getattr(torch.optim, optimization.type)(model.parameters(), **torch_arguments(optimization))
    total = len(features)
    ranges = [range(total * rank // world, total * (rank + 1) // world) for rank in range(world)]
    share = definition.ml.validation.strategy.size
    training = [len(rows) - max(1, int(len(rows) * share)) for rows in ranges]
    steps = -(-sum(training) // optimization.batch_size)
    for epoch in range(optimization.epochs):
        orders = [
            permutation(count, partition.seed(SEED, "rows", epoch, rank))
            for rank, count in enumerate(training)
        ]
        for step in range(steps):
            chosen: list[int] = []
            for rank, (rows, count, order) in enumerate(zip(ranges, training, orders, strict=True)):
                before, after = (
                    math.floor(Fraction(at * count, steps) + Fraction(rank, world)) for at in (step, step + 1)
                )
                chosen += [rows.start + int(row) for row in order[before:after]]
            if not chosen:
                continue
            optimizer.zero_grad()
            outputs = model(features[chosen])
            if definition.ml.model.loss == "CrossEntropy":
                loss = functional.cross_entropy(outputs, labels[chosen])
            else:
                loss = functional.mse_loss(outputs, labels[chosen])
            torch.autograd.backward(loss)
            optimizer.step()
    return model


def hash_and_size(path: str) -> tuple[str, int]:
    content = Path(path).read_bytes()
    return hashlib.sha256(content).hexdigest(), len(content)


def assert_same_weights(first: Model, second: Model) -> None:
    for (name, one), other in zip(first.named_parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4, msg=name)


async def progress_in(redis: RedisServer, last: int) -> list[tuple[int, int, float | None]]:
    """What a client reads of the progress, up to the end of the last step's epoch."""
    found = []
    async for entry in ProgressLog.follow(await redis.gate("progress"), TASK, 1):
        found.append((entry.epoch, entry.step, entry.loss))
        if entry.step == last and entry.accuracy is not None:
            break
    return found


@pytest.mark.parametrize(("world", "optimizer"), [(2, ADAM), (3, SGD), (5, SGD)])
async def test_ranks_train_what_one_machine_trains(
    tmp_path: Path, redis: RedisServer, world: int, optimizer: dict[str, Any]
) -> None:
    wanted = definition(optimizer=optimizer)
    dataset = split(wanted, tmp_path, tmp_path)
    made = plans(tmp_path, world, wanted, dataset, await redis.gate("store"))
    async with trainers(world) as children:
        results = await asyncio.gather(*map(run, children, made))

    finished = [result for _, result in results]
    assert_same_weights(load_model(finished[0].model), alone(wanted, dataset, world))
    assert len({result.sha256 for result in finished}) == 1
    assert len({(result.accuracy, result.loss) for result in finished}) == 1
    for result in finished:
        assert (result.sha256, result.size) == hash_and_size(result.model)
    assert finished[0].metrics == {"Accuracy": finished[0].accuracy, "CrossEntropy": finished[0].loss}
    rows = [segment.rows for segment in dataset.segments[:8]]
    assert finished[0].rows_trained == partition.rows_trained(rows, world, 0.1, 2)
    shown = await progress_in(redis, finished[0].steps)
    assert shown == [(event.epoch, event.step, event.loss) for event in results[0][0]]
    for progress, _ in results:
        ends = [event for event in progress if event.end]
        assert [event.epoch for event in ends] == [1, 2]
        assert ends[-1].step == ends[-1].steps == finished[0].steps
        assert ends[-1].accuracy == finished[0].accuracy


def regression(work: Path, optimizer: dict[str, Any]) -> TaskDefinition:
    random = np.random.Generator(np.random.PCG64(1))
    features = random.normal(size=(31, 3)).astype(np.float32)
    np.savez(work / "line.npz", features=features, labels=features @ np.ones((3, 2), np.float32))
    return definition(
        dataset={"source": {"features": "line.npz"}},
        layers=[{"id": 1, "type": "Dense", "nodes": 2, "activation": "Linear"}],
        loss="MSE",
        metrics=("MSE",),
        optimizer=SGD | {"batch-size": 2} | optimizer,
    )


async def test_a_regression_and_more_ranks_than_a_step_has_rows(tmp_path: Path, redis: RedisServer) -> None:
    wanted = regression(tmp_path, {})
    dataset = split(wanted, tmp_path, tmp_path)
    made = plans(tmp_path, 3, wanted, dataset, await redis.gate("store"))
    async with trainers(3) as children:
        results = await asyncio.gather(*map(run, children, made))
    finished = results[0][1]
    assert_same_weights(load_model(finished.model), alone(wanted, dataset, 3))
    assert finished.accuracy is None
    assert finished.metrics == {"MSE": finished.loss}


async def first_progress(trainer: Trainer, plan: TrainJob, seen: asyncio.Event) -> None:
    async for _ in trainer.run(plan):
        seen.set()


def addresses(pid: int) -> set[str]:
    """IPv4 addresses of a process's own ends of its TCP connections."""
    process = Path("/proc") / str(pid)
    inodes = set()
    for entry in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since the directory was read
            inodes.add(str(entry.readlink()))
    lines = (process / "net" / "tcp").read_text().splitlines()[1:]
    return {
        socket.inet_ntoa(bytes.fromhex(fields[1].split(":")[0])[::-1])
        for fields in map(str.split, lines)
        if f"socket:[{fields[9]}]" in inodes
    }


LONG = SGD | {"epochs": 100_000, "batch-size": 400}


@pytest.mark.parametrize(
    ("world", "sent", "reason"), [(3, signal.SIGKILL, "was lost"), (2, signal.SIGSTOP, "went silent")]
)
async def test_a_rank_that_dies_or_freezes_ends_the_others(
    tmp_path: Path, redis: RedisServer, world: int, sent: signal.Signals, reason: str
) -> None:
    wanted = definition(optimizer=LONG)
    dataset = split(wanted, tmp_path, tmp_path)
    made = plans(tmp_path, world, wanted, dataset, await redis.gate("store"), step_timeout_s=3.0)
    async with trainers(world) as children:
        seen = [asyncio.Event() for _ in children]
        jobs = [
            asyncio.create_task(first_progress(child, plan, event))
            for child, plan, event in zip(children, made, seen, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in seen))
        assert HOSTS[0] in addresses(children[0].pid)
        os.kill(children[-1].pid, sent)
        async with asyncio.timeout(15):
            outcomes = await asyncio.gather(*jobs[:-1], return_exceptions=True)
        jobs[-1].cancel()
        await asyncio.gather(jobs[-1], return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, TrainingError)
    # One rank sees the loss itself; the other may see the first one end because of it.
    assert any(reason in str(outcome) for outcome in outcomes)
    assert not [name for name in os.listdir(tmp_path) if "model" in name]  # noqa: PTH208


async def test_a_rank_that_never_comes(tmp_path: Path, redis: RedisServer) -> None:
    wanted = definition()
    dataset = split(wanted, tmp_path, tmp_path)
    made = plans(tmp_path, 2, wanted, dataset, await redis.gate("store"), rendezvous_timeout_s=1.0)
    async with trainers(1) as children:
        with pytest.raises(TrainingError, match="the 2 members did not meet within 1 s"):
            await run(children[0], made[0])


async def test_divergence_is_told(tmp_path: Path, redis: RedisServer) -> None:
    wanted = regression(tmp_path, {"optimizer_initialization_parameters": {"learning_rate": 900.0}})
    dataset = split(wanted, tmp_path, tmp_path)
    made = plans(tmp_path, 1, wanted, dataset, await redis.gate("store"))
    async with trainers(1) as children:
        with pytest.raises(TrainingError, match=r"training diverged: .*smaller learning_rate"):
            await run(children[0], made[0])


async def test_the_digits_are_learnt(tmp_path: Path, redis: RedisServer) -> None:
    wanted = task_definition.load_file(Path(__file__).parents[2] / "client-task-definition.yaml")
    dataset = split(wanted, Path(__file__).parents[2], tmp_path)
    made = plans(tmp_path, 5, wanted, dataset, await redis.gate("store"))
    async with trainers(5) as children:
        results = await asyncio.gather(*map(run, children, made))
    held_out: Sequence[Path] = dataset.files[8:]
    async with trainers(1) as children:
        scored = await children[0].score(Path(results[0][1].model), held_out, wanted)
    assert scored.rows == sum(segment.rows for segment in dataset.segments[8:])
    assert scored.accuracy is not None
    assert scored.accuracy > 0.93


async def test_a_model_that_is_not_the_tasks_is_not_scored(tmp_path: Path) -> None:
    wanted = definition()
    dataset = split(wanted, tmp_path, tmp_path)
    other = Architecture(64, (DenseLayer(10),), "CrossEntropy")
    save_model(build(other, Initializer(), bytes(8)), tmp_path / "model")
    async with trainers(1) as children:
        with pytest.raises(DataError, match="not the one that the task's definition describes"):
            await children[0].score(tmp_path / "model", [dataset.files[9]], wanted)

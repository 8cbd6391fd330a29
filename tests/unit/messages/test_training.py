"""What is said of trainers, of the members that they train with, and of models."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace as Has
from typing import Any, cast

import msgspec
import pytest
import torch
from support.datasets import definition
from support.message_cases import Case, check

from mlnet.cli import predict
from mlnet.data import modelfile
from mlnet.data.schema import Schema
from mlnet.task.layers import DenseLayer, DropoutLayer
from mlnet.training import architecture, child, gloo_tunnel, loop, model, process, rendezvous
from mlnet.training.architecture import Architecture
from mlnet.training.ipc import ChildReady, Finished, TrainingProgress, TrainJob
from mlnet.training.process import Trainer
from mlnet.util import subprocesses

TASK = "ab" * 32
LINEAR = Architecture(2, (DenseLayer(2),), "CrossEntropy")


def awaited(make: Callable[[Path], Awaitable[object]]) -> Case:
    async def result(directory: Path) -> object:
        return await make(directory)

    return lambda directory: asyncio.run(result(directory))


def started(text: str, then: Callable[[Trainer], Awaitable[object]]) -> Case:
    """What comes of a trainer whose process is this shell script."""

    async def run(directory: Path) -> object:
        (directory / "python").write_text(f"#!/bin/sh\n{text}\n")
        (directory / "python").chmod(0o700)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "executable", str(directory / "python"))
            trainer = await Trainer.start()
        try:
            return await then(trainer)
        finally:
            await trainer.stop()

    return awaited(run)


READY = f"echo '{msgspec.json.encode(ChildReady()).decode()}'; read command"
"""What a trainer does until it has its command."""


def said(event: object) -> str:
    """A trainer that answers its command so."""
    return f"{READY}; echo '{msgspec.json.encode(event).decode()}'; exec sleep 60"


def plan(**changes: Any) -> TrainJob:
    made = TrainJob({}, "", 0, 3, (), (), 2, "192.0.2.7", (), TASK, 1, "", 0.2, 0.2)
    return msgspec.structs.replace(made, **changes)


def test_trainers(tmp_path: Path) -> None:
    async def scored(trainer: Trainer) -> object:
        return await trainer.score(Path("m"), [], definition())

    async def trained(trainer: Trainer) -> object:
        return [event async for event in trainer.run(plan())]

    def without_memory(directory: Path) -> object:
        async def spawn(*_: object, **__: object) -> object:
            raise OSError(12, "Cannot allocate memory")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subprocesses, "spawn", spawn)
            return asyncio.run(Trainer.start())

    progress = TrainingProgress(1, 3, 10, 30, 0.5, 0.9)
    finished = Finished({}, None, 0.5, "m", TASK, 1, (1,), 1, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_MARGIN_SECONDS", 0.2)
        check(
            "training-processes",
            {
                "no memory for a process": without_memory,
                "a trainer that is silent after its first step": started(said(progress), trained),
                "a trainer that scores nothing": started(said(finished), scored),
                "a line without an end": started(f"{READY}; exec tr '\\0' x </dev/zero", trained),
            },
            tmp_path,
        )


def test_what_errors_mean(tmp_path: Path) -> None:
    def explained(text: str) -> Case:
        return lambda _: child.explain(RuntimeError(text))

    check(
        "explanations",
        {
            "a connection that is closed": explained("Connection closed by peer [192.0.2.7]:4001"),
            "a member that is silent": explained("Timed out waiting 120000ms for recv operation"),
            "no memory": explained("DefaultCPUAllocator: can't allocate memory"),
            "another error": explained("gloo: invalid argument"),
        },
        tmp_path,
    )


def answered(answer: bytes) -> Case:
    """What a trainer makes of its node's answer."""

    def case(_: Path) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            ours.settimeout(0.1)
            if answer == b"nothing":
                pass
            elif answer:
                theirs.send(answer)
            else:
                theirs.shutdown(socket.SHUT_WR)
            gloo_tunnel.GlooTunnelClient._tell(cast(Any, Has(_node=ours)), "reach 1 4001")

    return case


def test_members_that_train_together(tmp_path: Path) -> None:
    def others(**functions: Callable[..., object]) -> Any:
        """Collective operations, and what the other members bring in."""
        return Has(ReduceOp=torch.distributed.ReduceOp, **functions)

    def gathered(out: list[torch.Tensor], own: torch.Tensor) -> None:
        for rank, tensor in enumerate(out):
            tensor.copy_(own + (rank == 1))

    def another(first: torch.Tensor, _: int) -> None:
        first.add_(1)

    def with_others(dist: Any, act: Callable[[], object]) -> Case:
        def case(_: Path) -> object:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(loop, "dist", dist)
                return act()

        return case

    def missing(_: Path) -> None:
        def never(*_: object, **__: object) -> None:
            raise RuntimeError("wait timeout after 60 s")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.distributed, "init_process_group", never)
            rendezvous.join(plan(endpoints=("/nowhere",)))

    def unanswered(_: Path) -> object:
        def never(*_: object) -> None:
            raise TimeoutError("no value for the key rank1")

        keys = cast(Any, Has(multi_get=never))
        store = rendezvous.RendezvousStore(keys, timedelta(seconds=60))
        with pytest.raises(torch.distributed.DistStoreError) as caught:
            store._read(["rank1"], None)
        return caught.value

    check(
        "training-members",
        {
            "one has another model": with_others(
                others(all_gather=gathered), lambda: loop.require_agreement(b"\1" * 32, 3)
            ),
            "one has drifted apart": with_others(
                others(broadcast=another, all_reduce=lambda *_: None),
                lambda: loop.align(model.Model(LINEAR)),
            ),
            "they do not meet": missing,
            "a key does not come": unanswered,
            "too many for the tunnel": lambda _: gloo_tunnel.address(TASK, 1, 250),
            "the node refuses a way": answered(b"there is no tunnel to that member"),
            "the node has ended": answered(b""),
            "the node does not answer": answered(b"nothing"),
        },
        tmp_path,
    )


def zeros(path: Path, value: float = 0.0) -> Path:
    """A model of two features whose weights are all alike."""
    made = model.Model(LINEAR)
    for weight in made.parameters():
        torch.nn.init.constant_(weight, value)
    model.save_model(made, path)
    return path


def test_model_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def described(text: str) -> Case:
        return lambda _: architecture.from_json(text, "model.safetensors")

    def other_data(directory: Path) -> object:
        modelfile.deliver(zeros(directory / "m"), directory / "n", Schema("NPZ", 3))
        return model.read_schema(directory / "n")

    def predicted(directory: Path) -> object:
        modelfile.deliver(
            zeros(directory / "m"),
            directory / "n",
            Schema("CSV", 2, classes=("cat", "dog"), width=3, label=2),
        )
        (directory / "x.csv").write_text("1.5,2\n3,4.5\n")
        predict.print_predictions(directory / "n", directory / "x.csv", None, json=False)
        return capsys.readouterr().out

    earlier = msgspec.json.encode(LINEAR).decode().rsplit('"format"', 1)[0] + '"format":1}'
    check(
        "model-files",
        {
            "a model without layers that are trained": described(
                msgspec.json.encode(Architecture(2, (DropoutLayer(0.5),), "MSE")).decode()
            ),
            "a model of an earlier version": described(earlier),
            "values that are not finite": lambda directory: model.load_model(
                zeros(directory / "m", float("nan"))
            ),
            "the description of other data": other_data,
            "predictions": predicted,
        },
        tmp_path,
    )

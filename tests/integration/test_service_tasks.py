"""A task that a plain stub submits to a node, whose caller and whose node go away and come back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.cluster import EXAMPLE, Mission, NodeProcess, mission

from mlnet.training.model import load_model
from mlnet.util import yaml12, yaml_writer
from mlnet.v1 import tasks_pb2 as pb
from mlnet.v1 import tasks_pb2_grpc

ROOTS = ("--dataset-root", str(EXAMPLE.parent))
EPOCHS = 60
pytestmark = pytest.mark.timeout(240)


def stub_of(node: NodeProcess) -> tuple[grpc.aio.Channel, Any]:
    channel = grpc.aio.insecure_channel(f"unix:{node.data_dir / 'api.sock'}")
    return channel, tasks_pb2_grpc.TasksServiceStub(channel)  # type: ignore[no-untyped-call]


def definition(net: Mission, **cluster: Any) -> str:
    plain: Any = yaml12.load(net.definition(**cluster).read_text())
    plain["ml"]["optimizer"]["epochs"] = EPOCHS
    return yaml_writer.dump_block(plain)


async def test_a_task_outlives_its_caller_and_its_node(tmp_path: Path) -> None:
    async with mission(2) as net:
        net.abandoned = True
        node = await net.start_one(*ROOTS)
        request = pb.SubmitRequest(
            definition=definition(net, min_nodes=2, max_nodes=2), idempotency_token="one"
        )
        channel, stub = stub_of(node)
        async with channel:
            task = (await stub.Submit(request)).task
            assert (await stub.Submit(request)).task.id == task.id
            seen: list[pb.Event] = []
            async for shown in stub.Watch(pb.WatchRequest(task=task.id)):
                seen += [shown.event] if shown.HasField("event") else []
                if shown.event.HasField("progress"):
                    break  # the caller hangs up, in the middle of the training
        node.kill()
        await node.process.wait()

        node = await net.start_one(*ROOTS, data_dir=node.data_dir)
        channel, stub = stub_of(node)
        async with channel:
            assert (await stub.Submit(request)).task.id == task.id
            request.definition += "# other content\n"
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Submit(request)
            assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
            rest = pb.WatchRequest(task=task.id[:8], from_revision=len(seen) + 1)
            seen += [shown.event async for shown in stub.Watch(rest) if shown.HasField("event")]
            assert [event.revision for event in seen] == list(range(1, len(seen) + 1))
            assert [event.task for event in seen] == [task.id] * len(seen)
            steps = [event.progress.step for event in seen if event.HasField("progress")]
            assert steps == sorted(steps)
            assert seen[-1].ended == pb.TaskEnded(state=pb.TASK_STATE_COMPLETED)

            done = (await stub.Get(pb.GetRequest(task=task.id))).task
            assert node.peer_id not in done.members
            assert set(done.members) == {member.peer_id for member in net.nodes[:2]}
            pieces = [piece async for piece in stub.Download(pb.DownloadRequest(task=task.id))]
            model = tmp_path / "model.safetensors"
            model.write_bytes(b"".join(piece.data for piece in pieces))
            assert hashlib.sha256(model.read_bytes()).hexdigest() == done.result.model_sha256
            assert load_model(model).layers
            lines = [part.lines async for part in stub.Transcript(pb.TranscriptRequest(task=task.id))]
            (transcript := tmp_path / "transcript.jsonl").write_bytes(b"".join(lines))
            status, out, err = await net.run("replay", str(transcript))
            assert status == 0, err
            assert task.id[:12] in out

            waits = pb.SubmitRequest(definition=definition(net, min_nodes=9, max_nodes=9))
            other = (await stub.Submit(waits)).task
            await stub.Cancel(pb.CancelRequest(task=other.id))
            *_, last = [one.event async for one in stub.Watch(pb.WatchRequest(task=other.id))]
            assert last.ended.state == pb.TASK_STATE_CANCELLED
            page = await stub.List(pb.ListRequest())
            assert [one.id for one in page.tasks] == [other.id, task.id]

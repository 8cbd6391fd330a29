"""The clients: what they ask, what they make of the answers, and errors of mlnet for every failure."""

from __future__ import annotations

import asyncio
import hashlib
import io
import sys
from pathlib import Path

import grpc
import pytest
from support.api_double import PEER, TASK, Break, Double, course, in_thread, served
from support.definitions import EXAMPLE

import mlnet
from mlnet.errors import (
    ConfigError,
    DataError,
    HashMismatch,
    PeerUnreachable,
    ServiceError,
    TaskCancelled,
    TaskError,
    TaskProblem,
    TooFewNodes,
)
from mlnet.sdk import target
from mlnet.sdk.async_client import AsyncClient
from mlnet.sdk.client import Client
from mlnet.sdk.events import TaskEnded, TaskEvent
from mlnet.sdk.records import TaskState
from mlnet.sdk.result import default_path
from mlnet.v1 import tasks_pb2

DENIED = ServiceError("dataset /data does not lie below", status="PERMISSION_DENIED")


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    """The example, whose dataset lies beside it."""
    (tmp_path / "digits.npz").write_bytes(b"rows" * 1000)
    file = tmp_path / "task.yaml"
    file.write_text(EXAMPLE.read_text().replace("mlnet/examples/digits.npz", "digits.npz"))
    return file


# ------------------------------------------------------------------------------------------------ submit


async def test_a_dataset_is_named_by_its_whole_path(place: Path, task_file: Path) -> None:
    double = Double()
    async with served(double, f"unix:{place}"), AsyncClient(socket=place) as client:
        task = await client.submit(task_file, waiting_period="90s", allowed_nodes=[PEER])
    (request,) = double.submitted
    assert request.dataset.path == str(task_file.parent / "digits.npz")
    assert "features: digits.npz" in request.definition
    assert request.waiting_period.seconds == 90
    assert list(request.allowed_nodes) == [PEER]
    assert len(request.idempotency_token) == 32
    assert (task.id, task.warnings) == (TASK, ("a column looks like a date",))


async def test_what_the_node_may_not_read_is_uploaded(place: Path, task_file: Path) -> None:
    said: list[str] = []
    double = Double(refuses=[DENIED])
    async with served(double, f"unix:{place}"), AsyncClient(socket=place, notice=said.append) as client:
        await client.submit(task_file)
    file = task_file.parent / "digits.npz"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert double.blobs == {sha256: file.read_bytes()}
    assert double.submitted[1].dataset.blob_sha256 == sha256
    assert double.submitted[1].dataset.name == "digits.npz"
    assert double.submitted[0].idempotency_token == double.submitted[1].idempotency_token
    assert said == [
        f"{file} is uploaded: the node does not read datasets there",
        "warning: a column looks like a date",
    ]


async def test_features_and_labels_may_be_two_files(place: Path, task_file: Path) -> None:
    labels = task_file.parent / "labels.idx"
    labels.write_bytes(b"labels")
    double = Double(refuses=[DENIED])
    async with served(double, f"unix:{place}"), AsyncClient(socket=place, notice=lambda text: None) as client:
        await client.submit(task_file, data=[task_file.parent / "digits.npz", labels])
    first, second = double.submitted
    assert first.dataset.labels.path == str(labels)
    assert second.dataset.labels.blob_sha256 == hashlib.sha256(b"labels").hexdigest()
    assert len(double.blobs) == 2


async def test_an_upload_goes_on_where_it_was(place: Path, task_file: Path) -> None:
    (task_file.parent / "digits.npz").write_bytes(bytes(3 << 20))
    double = Double(refuses=[DENIED], breaks=[Break(2)])
    async with served(double, f"unix:{place}"), AsyncClient(socket=place, notice=lambda text: None) as client:
        await client.get(TASK)
        await client.submit(task_file)
    assert double.puts == [0, 2 << 20]


async def test_a_directory_is_not_uploaded(place: Path, task_file: Path, tmp_path: Path) -> None:
    double = Double(refuses=[DENIED])
    async with served(double, f"unix:{place}"), AsyncClient(socket=place) as client:
        with pytest.raises(DataError, match="is a directory, which cannot be uploaded"):
            await client.submit(task_file, data=tmp_path)


async def test_to_another_machine_a_local_dataset_is_uploaded_at_once(task_file: Path) -> None:
    double = Double()
    async with (
        served(double, "127.0.0.1:0") as port,
        AsyncClient(f"127.0.0.1:{port}", token="secret", notice=lambda text: None) as client,
    ):
        await client.submit(task_file)
        await client.get(TASK)
    assert double.submitted[0].dataset.WhichOneof("source") == "blob_sha256"
    assert double.tokens == ["Bearer secret"]


async def test_a_wrong_definition_is_told_without_a_node(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(EXAMPLE.read_text().replace("epochs: 12", "epochs: 0"))
    async with AsyncClient(socket=place) as client:
        with pytest.raises(TaskError) as wrong:
            await client.submit(file)
    assert (wrong.value.path, wrong.value.file) == ("ml.optimizer.epochs", str(file))


async def test_the_errors_of_a_definition_arrive_as_they_were_raised(place: Path, task_file: Path) -> None:
    problem = TaskProblem("ml.model", "is too large", "choose fewer nodes", 3, 4, certain=True)
    double = Double(refuses=[TaskError.of([problem])])
    async with served(double, f"unix:{place}"), AsyncClient(socket=place) as client:
        with pytest.raises(TaskError) as wrong:
            await client.submit(task_file)
    assert wrong.value.errors == (problem,)


async def test_a_text_is_a_definition_too(place: Path) -> None:
    double = Double()
    async with served(double, f"unix:{place}"), AsyncClient(socket=place) as client:
        await client.submit(EXAMPLE.read_text(), data="https://example.org/digits.npz")
    assert double.submitted[0].dataset.link == "https://example.org/digits.npz"


# ---------------------------------------------------------------------------------------------- results


async def test_a_model_is_fetched_in_pieces_and_goes_on_where_it_was(place: Path, tmp_path: Path) -> None:
    double = Double(model=bytes(range(250)) * 20, breaks=[Break(2), Break(1)])
    file = tmp_path / "new" / "model.safetensors"
    moved: list[tuple[int, int]] = []
    async with served(double, f"unix:{place}"), AsyncClient(socket=place) as client:
        await client.get(TASK)
        await client.download(TASK, file, moved=lambda there, size: moved.append((there, size)))
    assert file.read_bytes() == double.model
    assert double.downloads == [0, 2000, 3000]
    assert moved[-1] == (5000, 5000)
    assert [path.name for path in file.parent.iterdir()] == ["model.safetensors"]


async def test_a_damaged_part_is_fetched_anew(place: Path, tmp_path: Path) -> None:
    double = Double(model=b"model" * 1000)
    file = tmp_path / "m"
    (tmp_path / "m.part").write_bytes(b"something else")
    async with served(double, f"unix:{place}"), AsyncClient(socket=place) as client:
        await client.download(TASK, file)
        assert file.read_bytes() == double.model
        double.damaged = 99
        with pytest.raises(HashMismatch, match="arrived damaged"):
            await client.download(TASK, tmp_path / "other")


async def test_a_task_without_a_model_says_so(place: Path, tmp_path: Path) -> None:
    async with served(Double(), f"unix:{place}"), AsyncClient(socket=place) as client:
        with pytest.raises(ServiceError, match="the task has no model yet"):
            await client.download(TASK, tmp_path / "m")


async def test_a_failed_task_is_a_result_with_its_error(place: Path) -> None:
    events = course(3, tasks_pb2.TASK_STATE_FAILED)
    events[-1].ended.reason, events[-1].ended.code = "1 node answered", "TooFewNodes"
    async with served(Double(events=events), f"unix:{place}"), AsyncClient(socket=place) as client:
        result = await client.train(EXAMPLE, on_event=lambda event: None)
        with pytest.raises(TooFewNodes, match="1 node answered"):
            await result.model()
    assert isinstance(result.error, TooFewNodes)
    assert str(result) == f"task {TASK[:12]} failed: 1 node answered"


async def test_a_cancelled_task_is_one_too(place: Path) -> None:
    events = course(3, tasks_pb2.TASK_STATE_CANCELLED)
    events[-1].ended.reason = "cancelled by the user"
    async with served(Double(events=events), f"unix:{place}"), AsyncClient(socket=place) as client:
        result = await client.result(TASK)
    assert isinstance(result.error, TaskCancelled)
    assert result.document().state == "cancelled"


async def test_all_tasks_come_page_by_page(place: Path) -> None:
    async with served(Double(), f"unix:{place}"), AsyncClient(socket=place) as client:
        assert len({task.id for task in await client.tasks()}) == 450
        assert len(await client.tasks([TaskState.COMPLETED], limit=7)) == 7


async def test_a_node_tells_of_itself_and_of_its_peers(place: Path) -> None:
    async with served(Double(), f"unix:{place}"), AsyncClient(socket=place) as client:
        status = await client.status()
        assert (status.peer, status.memberships[0].phase, status.tasks[0].id) == (PEER, "training", TASK)
        peers = await client.peers()
        assert [peer.round_trip for peer in peers] == [0.0015, None]
        assert len(await client.peers(connected_only=True)) == 1
        assert (await client.ping(PEER, 2)).round_trips == (0.001, 0.002)
        assert b"".join([lines async for lines in client.transcript(TASK)]).count(b"\n") == 3


# --------------------------------------------------------------------------------------------- blocking


def test_the_blocking_client_has_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)


def test_a_script_trains_and_looks_at_each_event(place: Path, tmp_path: Path) -> None:
    seen: list[TaskEvent] = []
    double = Double(model=b"model" * 1000)
    with in_thread(double, place), Client(socket=place) as client:
        result = client.train(EXAMPLE, on_event=seen.append)
        assert result.download(tmp_path / "m").read_bytes() == double.model
        assert client.task("ab12").info.state == "completed"
        assert [event.revision for event in client.task(TASK).watch(3)] == [3, 4, 5]
        assert next(iter(client.transcript(TASK))) == b'{"line": 0}\n'
    assert isinstance(seen[-1], TaskEnded)
    assert (result.state, result.accuracy.held_out, result.error) == ("completed", 0.875, None)


def test_it_works_where_a_loop_runs_in_the_same_thread(place: Path) -> None:
    """As in a notebook."""

    async def cell() -> list[int]:
        with Client(socket=place) as client:
            return [event.revision for event in client.watch(TASK)]

    with in_thread(Double(), place):
        assert asyncio.run(cell()) == [1, 2, 3, 4, 5]


def test_a_watch_that_is_left_ends_the_call(place: Path) -> None:
    with in_thread(Double(), place), Client(socket=place) as client:
        for event in client.watch(TASK):
            if event.revision == 2:
                break
        assert client.get(TASK).id == TASK


def test_a_terminal_shows_the_course_by_itself(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "dumb")
    with in_thread(Double(), place), Client(socket=place) as client:
        client.train(EXAMPLE)
    shown = screen.getvalue()
    assert f"Task {TASK[:12]}" in shown
    assert "warning: a column looks like a date" in shown
    assert f"task {TASK[:12]} has its model" in shown
    assert capsys.readouterr().out == ""


# ----------------------------------------------------------------------------------------- which node


def test_the_node_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert target.find().socket == tmp_path / "mlnet" / "node" / "api.sock"
    assert target.find().is_default
    assert target.find("/run/x.sock").socket == Path("/run/x.sock")
    assert target.find("unix:/run/x.sock").socket == Path("/run/x.sock")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    for named in (str(tmp_path / "data"), "data", "data/", "unix:data"):
        assert target.find(named).socket == tmp_path / "data" / "api.sock"
    assert target.find(socket="data").socket == tmp_path / "data" / "api.sock"
    assert target.find("[::1]:50051", token="t").metadata == (("authorization", "Bearer t"),)
    monkeypatch.setenv("MLNET_NODE", "127.0.0.1:1")
    monkeypatch.setenv("MLNET_TOKEN", "secret")
    assert target.find().address == "127.0.0.1:1"
    assert target.find().token == "secret"
    assert not target.find().is_encrypted
    assert target.find("example.org:1").is_encrypted
    assert target.find("127.0.0.1:1", ca="x.pem").is_encrypted


@pytest.mark.parametrize(
    ("address", "socket", "words"),
    [
        ("nonsense", None, "the node's address 'nonsense' is not HOST:PORT"),
        (
            "127.0.0.1:1",
            "/x",
            "two nodes are named, 127.0.0.1:1 and /x; name one of them",
        ),
    ],
)
def test_an_address_that_is_none(address: str, socket: str | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        mlnet.Client(address, socket=socket)


async def test_certificates_that_cannot_be_read() -> None:
    client = AsyncClient("example.org:1", ca="/nowhere.pem")
    with pytest.raises(ConfigError, match=r"the certificates in /nowhere.pem cannot be read: No such file"):
        await client.get(TASK)


async def test_a_long_path_of_a_socket_is_no_obstacle(place: Path) -> None:
    deep = place.parent / ("d" * 120)
    deep.mkdir()
    async with served(Double(), f"unix:{place}"):
        (deep / "api.sock").symlink_to(place)
        async with AsyncClient(socket=deep / "api.sock") as client:
            assert (await client.get(TASK)).id == TASK


async def test_an_address_where_nobody_listens(unused_tcp_port: int) -> None:
    async with AsyncClient(f"127.0.0.1:{unused_tcp_port}") as client:
        with pytest.raises(PeerUnreachable, match="does not answer; is it running"):
            await client.status()


async def test_a_call_that_the_node_does_not_know(place: Path) -> None:
    server = grpc.aio.server()
    server.add_insecure_port(f"unix:{place}")
    await server.start()
    async with AsyncClient(socket=place) as client:
        with pytest.raises(ServiceError, match="does not offer this call"):
            await client.status()
    await server.stop(0)


def test_a_model_goes_to_a_directory_of_its_task() -> None:
    assert default_path(TASK) == Path("mlnet-ab12ab12ab12/model.safetensors")

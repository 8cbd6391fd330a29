"""A node's training for one task: the trainer's process, its segments, its tunnels to other members, and the
model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from mlnet.data.modelfile import MODEL
from mlnet.driver import blob_holders
from mlnet.driver.messenger import Wire
from mlnet.driver.options import NodeOptions
from mlnet.errors import DataError, MlnetError, TrainingError
from mlnet.node.gloo_tunnel import GlooTunnelServer
from mlnet.node.liveness import watched
from mlnet.node.redis import TaskRedis
from mlnet.protocol.commands import TrainingAssignment
from mlnet.protocol.events import Event, TrainingFinished, TrainingProgressed, TrainingStopped
from mlnet.protocol.wire.messages import MAX_METRIC
from mlnet.task import definition as task_definition
from mlnet.task import schema
from mlnet.training import gloo_tunnel, partition
from mlnet.training.ipc import Finished, Scored, TrainingProgress, TrainJob
from mlnet.training.process import Trainer
from mlnet.util import files
from mlnet.util.sockets import Way


class TaskTraining:
    """Trains, and serves segments and the model to those who may have them.

    Args:
        task: its id.
        client: peer id.
        definition: of the task.
        wire: the node's messenger.
        redis: where the trainers meet.
        options: the operator's.
        directory: directory for segments and the model.
        runtime: returns the directory for sockets.
        tell: takes the events of the training.
    """

    def __init__(
        self,
        task: str,
        client: str,
        definition: schema.TaskDefinition,
        wire: Wire,
        redis: TaskRedis,
        options: NodeOptions,
        directory: Path,
        runtime: Callable[[], Path],
        tell: Callable[[Event], None],
    ) -> None:
        self._task, self._client, self._definition = task, client, definition
        self._wire, self._redis, self._options = wire, redis, options
        self._directory, self._runtime = directory, runtime
        self._tell = tell
        self._trainer: Trainer | None = None
        self._members: frozenset[str] = frozenset()
        self._gloo_tunnels: GlooTunnelServer | None = None
        self._ways: list[Way] = []
        self._blobs: dict[str, Path] = {}
        self._model: Path | None = None

    async def start(self, environment: Mapping[str, str]) -> None:
        """Start the trainer's process. It imports torch while the cluster still forms.

        Raises:
            MlnetError: it does not start.
        """
        resources = self._options.terms.resources
        self._trainer = await Trainer.start(
            threads=resources.cpus, memory=resources.memory << 20, env=environment
        )

    async def died(self) -> None:
        """Wait until the trainer's process ends.

        Raises:
            TrainingError: it has ended; the text says how.
        """
        if self._trainer is not None:
            raise TrainingError(f"its {await self._trainer.died()}")

    async def stop(self) -> None:
        """End the process and the tunnels to other members."""
        trainer, self._trainer = self._trainer, None
        try:
            await self._close_gloo_tunnels()
        finally:
            if trainer is not None:
                await trainer.stop()

    def drop_segments(self) -> None:
        """Delete all segments; keep the model."""
        self._blobs = {digest: path for digest, path in self._blobs.items() if path == self._model}
        for path in self._directory.glob("*.segment"):
            files.remove(path)

    def restore_model(self, sha256: str) -> None:
        """Serve a model that a former process has left."""
        path = self._directory / MODEL
        if path.exists():
            self._model = self._blobs[sha256] = path

    # ----------------------------------------------------------------------------------- what peers may have

    def admit_rank(self, peer: str, attempt: str) -> tuple[str, int] | None:
        """The address at which this node's trainer listens for a peer's trainer; None to refuse."""
        return None if self._gloo_tunnels is None else self._gloo_tunnels.target(peer, attempt)

    def find_blob(self, peer: str, digest: str) -> Path | None:
        """The file of a verified segment or of the model; None when there is none for that peer."""
        if peer != self._client and peer not in self._members:
            return None
        return self._blobs.get(digest)

    # --------------------------------------------------------------------------------------------- training

    async def train(self, attempt: int, plan: TrainingAssignment) -> None:
        """Train, and report the outcome as an event."""
        others = [peer for peer in plan.nodes if peer != self._wire.network.peer_id]
        seconds = self._options.deadlines.lost / 1000
        try:
            async with watched(self._wire.network, others, seconds) as met:
                event = await self._trained(attempt, plan, met)
        except (MlnetError, OSError) as error:
            self._tell(TrainingStopped(attempt, str(error)))
            if self._trainer is not None:
                await self._trainer.stop()
        else:
            self._tell(event)

    async def _trained(self, attempt: int, plan: TrainingAssignment, met: Callable[[], None]) -> Event:
        """Fetch and train; ``met`` is called once all members have met."""
        rank, trainer = plan.nodes.index(self._wire.network.peer_id), self._trainer
        if trainer is None:
            raise TrainingError("the trainer process did not start")
        self._members = frozenset(plan.nodes)
        # From here on only the members that train may use the store.
        self._redis.narrow(self._members)
        # A download takes long: when the trainer ends meanwhile, say so now instead of afterwards.
        async with _unless(self.died()):
            paths = await self._fetch_segments(attempt, plan, rank)
        async for event in trainer.run(await self._request(attempt, plan, rank, paths)):
            # The first event after the rendezvous: from here on the trainers notice a loss themselves
            # (liveness.py).
            met()
            if isinstance(event, Finished):
                return self._finished(attempt, plan, event)
            self._tell(_progressed(attempt, event))
        raise TrainingError("the trainer ended without a result")

    async def _request(
        self, attempt: int, plan: TrainingAssignment, rank: int, paths: Mapping[int, Path]
    ) -> TrainJob:
        pair = (plan.master, plan.slave)
        return TrainJob(
            definition=task_definition.to_plain(self._definition),
            seed=plan.decision,
            rank=rank,
            world=len(plan.nodes),
            segments=plan.segments,
            files=tuple(str(paths[at]) if at in paths else None for at in range(len(plan.segments))),
            inputs=plan.inputs,
            host=gloo_tunnel.listening(self._task, attempt, rank, plan.hosts),
            gloo_tunnel=self._kept(await self._open_gloo_tunnels(attempt, plan.nodes)),
            endpoints=tuple([self._kept(await self._redis.endpoint(peer)) for peer in pair]),
            task=self._task,
            attempt=attempt,
            output=str(self._directory / MODEL),
            rendezvous_timeout_s=self._rendezvous(plan) / 1000,
            step_timeout_s=self._options.deadlines.step / 1000,
            threads=self._options.terms.resources.cpus,
            max_parameters=self._options.terms.max_parameters,
        )

    async def _open_gloo_tunnels(self, attempt: int, nodes: Sequence[str]) -> Path:
        """The socket at which the trainer asks for tunnels to members that it cannot reach directly."""
        await self._close_gloo_tunnels()
        place = self._runtime()
        place.mkdir(mode=0o700, exist_ok=True)
        control = place / f"d{attempt}"
        self._gloo_tunnels = GlooTunnelServer(self._wire.network, control, self._task, attempt, nodes)
        self._gloo_tunnels.start()
        return control

    def _kept(self, path: Path) -> str:
        """A socket's address for the trainer, which may connect after somebody has removed its directory."""
        way = Way(path)
        self._ways.append(way)
        return way.for_children

    async def _close_gloo_tunnels(self) -> None:
        while self._ways:
            self._ways.pop().close()
        gloo_tunnels, self._gloo_tunnels = self._gloo_tunnels, None
        if gloo_tunnels is not None:
            await gloo_tunnels.stop()

    def _rendezvous(self, plan: TrainingAssignment) -> int:
        """Milliseconds for all ranks to meet: the slowest may still download and load while the others
        wait."""
        waits = self._options.deadlines
        return waits.fetch(sum(segment.size for segment in plan.segments)) + waits.load + waits.rendezvous

    async def _fetch_segments(self, attempt: int, plan: TrainingAssignment, rank: int) -> dict[int, Path]:
        """The segments that hold this rank's rows."""
        wanted = partition.segments_of([segment.rows for segment in plan.segments], rank, len(plan.nodes))
        total = sum(plan.segments[index].size for index in wanted)
        # Before anything is fetched: the sizes are in the task, signed by the client.
        if total > self._options.disk:
            raise DataError(
                f"the segments to train on take {total} bytes, and this node allows a task"
                f" {self._options.disk} bytes of disk (--disk)"
            )
        fix = "start the node with another --data-dir"
        files.require_room(self._directory, total, "the segments to train on take", fix)
        paths: dict[int, Path] = {}
        for index in wanted:
            segment = plan.segments[index]
            destination = self._directory / f"{segment.root}.segment"
            paths[index] = await blob_holders.fetch_segment(
                self._wire,
                (self._client, *plan.nodes),
                plan.links[index],
                segment,
                destination,
                self._options.policy,
            )
            self._blobs[segment.root] = paths[index]
            self._tell(TrainingProgressed(attempt))
        return paths

    def _finished(self, attempt: int, plan: TrainingAssignment, event: Finished) -> TrainingFinished:
        self._model = Path(event.model)
        self._blobs[event.sha256] = self._model
        return TrainingFinished(
            attempt=attempt,
            metrics={name: _bounded(value) for name, value in event.metrics.items()},
            accuracy=event.accuracy,
            sha256=event.sha256,
            size=event.size,
            contributions=dict(zip(plan.nodes, event.rows_trained, strict=True)),
        )


@asynccontextmanager
async def _unless(failure: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """End the block when ``failure`` raises, with its error."""
    try:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(failure)
            try:
                yield
            finally:
                watch.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _bounded(metric: float) -> float:
    """A metric clipped to what a message can carry. A loss beyond the bound is no worse for being clipped."""
    return max(-MAX_METRIC, min(MAX_METRIC, metric))


def _progressed(attempt: int, event: TrainingProgress | Scored) -> TrainingProgressed:
    if isinstance(event, TrainingProgress):
        return TrainingProgressed(attempt, event.step, event.steps)
    return TrainingProgressed(attempt)

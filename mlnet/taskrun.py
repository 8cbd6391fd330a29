"""What a node holds for one task: a Redis server, admissions to it, the trainer, segments and the model."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from random import SystemRandom

from mlnet import holders, store, task_schema
from mlnet import task as task_definition
from mlnet.companions import watched
from mlnet.detours import Detours
from mlnet.errors import DataError, LocalProtocolError, MlnetError, StoreError, TrainingError, TransportError
from mlnet.net.interface import REDIS_PROTOCOL, DialBack
from mlnet.options import NodeOptions
from mlnet.protocol.commands import (
    Command,
    MeasurePings,
    Offer,
    Plan,
    PrepareRedis,
    Replicate,
    ServeStore,
    StartTraining,
)
from mlnet.protocol.events import (
    Event,
    PingsMeasured,
    RedisPrepared,
    Replicated,
    Restarted,
    TrainingFinished,
    TrainingProgressed,
    TrainingStopped,
)
from mlnet.protocol.messages import MAX_METRIC
from mlnet.training import detour, shards
from mlnet.training.plan import Finished, Segment, TrainingPlan
from mlnet.training.process import Trainer
from mlnet.wire import Wire

logger = logging.getLogger(__name__)
MODEL = "model.safetensors"
DIALLERS = 4
"""Peers that are asked to dial a port back."""


class TaskRun:
    """A node's resources for one task.

    Args:
        task: its id.
        client: peer id.
        definition: of the task.
        wire: the node's.
        options: of the operator.
        directory: for segments and the model.
        runtime: for sockets.
        tell: takes the events that effects end in.
    """

    def __init__(
        self,
        task: str,
        client: str,
        definition: task_schema.TaskDefinition,
        wire: Wire,
        options: NodeOptions,
        directory: Path,
        runtime: Path,
        tell: Callable[[Event], None],
    ) -> None:
        self.task = task
        self.client = client
        self.blobs: dict[str, Path] = {}
        self.model: Path | None = None
        self._definition = definition
        self._wire = wire
        self._options = options
        self._directory = directory
        self._runtime = runtime
        self._tell = tell
        self._server: store.RedisServer | None = None
        self._trainer: Trainer | None = None
        self._store_members: frozenset[str] = frozenset()
        self._slave = ""
        self._members: frozenset[str] = frozenset()
        self._forwards: list[Path] = []
        self._detours: Detours | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._forming: set[asyncio.Task[None]] = set()
        self._attempt = 0
        self._replicates = False

    # ------------------------------------------------------------------------------------------- commands

    def carry_out(self, command: Command) -> None:
        """Begin what a command asks for; its end comes as an event."""
        if getattr(command, "attempt", 0) > self._attempt:
            self._begin(getattr(command, "attempt", 0))
        match command:
            case PrepareRedis():
                self._start(self._prepare_redis())
            case MeasurePings():
                self._start(self._measure_pings(command), self._forming)
            case ServeStore():
                self._store_members, self._slave = frozenset(command.members), command.slave
            case Replicate():
                self._replicates = True
                self._start(self._replicate(command), self._forming)
            case StartTraining():
                self._start(self._train(command.attempt, command.plan))
            case Offer():
                self._start(self.release())
            case _:
                raise LocalProtocolError(f"a node does not know how to carry out {type(command).__name__}")

    def _begin(self, attempt: int) -> None:
        """Nothing of an earlier attempt goes on: its measurements, its admissions, its replication."""
        self._attempt = attempt
        for job in self._forming:
            job.cancel()
        self._store_members, self._slave = frozenset(), ""
        if self._replicates:
            self._replicates = False
            self._start(self._promote())

    async def release(self) -> None:
        """Stop servers and children, close sockets, keep the model."""
        jobs = [job for job in self._jobs if job is not asyncio.current_task()]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        if self._trainer is not None:
            await self._trainer.stop()
            self._trainer = None
        await self._close_detours()
        for path in self._forwards:
            await self._wire.network.unforward(path)
        self._forwards.clear()
        if self._server is not None:
            await self._server.stop()
            self._server = None
        self.blobs = {digest: path for digest, path in self.blobs.items() if path == self.model}
        shutil.rmtree(self._runtime, ignore_errors=True)
        for path in self._directory.glob("*.segment"):
            path.unlink(missing_ok=True)

    def restore_model(self, sha256: str) -> None:
        """Offer a model that a former process has left."""
        path = self._directory / MODEL
        if path.exists():
            self.model = self.blobs[sha256] = path

    # ------------------------------------------------------------------------------------- what peers may
    # have

    def admit(self, peer: str, purpose: str) -> Path | None:
        """The socket of this node's server for a purpose, if that peer may use it."""
        may = {
            "store": peer in self._store_members,
            "replica": peer == self._slave,
            "progress": peer == self.client or peer in self._store_members,
        }
        if self._server is None or not may.get(purpose, False):
            return None
        return self._server.gate_path(purpose)

    def admit_rank(self, peer: str, attempt: str) -> tuple[str, int] | None:
        """Where this node's trainer listens for another member's."""
        return None if self._detours is None else self._detours.target(peer, attempt)

    def find_blob(self, peer: str, digest: str) -> Path | None:
        """A verified segment, or the model."""
        if peer != self.client and peer not in self._members:
            return None
        return self.blobs.get(digest)

    # ------------------------------------------------------------------------------------------- effects

    def _start(self, job: Coroutine[None, None, None], group: set[asyncio.Task[None]] | None = None) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._job_done)
        if group is not None:
            group.add(task)
            task.add_done_callback(group.discard)

    def _job_done(self, job: asyncio.Task[None]) -> None:
        """An effect that breaks is a bug; the cluster is told at once that this node is out."""
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            logger.error("an effect of task %s broke", self.task[:12], exc_info=error)
            self._tell(Restarted(f"the node has a bug: {type(error).__name__}: {error}"))

    async def _prepare_redis(self) -> None:
        options = self._options
        resources = options.terms.resources
        self._runtime.mkdir(mode=0o700, exist_ok=True)
        # torch leaves directories in TMPDIR; in this one they go with the task.
        environment = os.environ | {"TMPDIR": str(self._runtime)}
        try:
            self._trainer = await Trainer.start(
                threads=resources.cpus, memory=resources.memory << 20, env=environment
            )
            self._server = await store.RedisServer.start(
                store.find_binary(options.redis),
                self._runtime,
                task=self.task,
                ports=options.redis_ports,
                max_memory=min(options.terms.resources.memory << 20, 256 << 20),
            )
            for purpose in ("store", "replica", "progress"):
                await self._server.gate(purpose)
            found = await self._dialled_back(self._server.port)
            port = self._server.port
        except MlnetError as error:
            found, port = DialBack(False, self._own_host(), f"no Redis server: {error}"), 0
        self._tell(
            RedisPrepared(
                found.open, found.host or self._own_host(), port, self._wire.addresses(), found.reason
            )
        )

    async def _dialled_back(self, port: int) -> DialBack:
        """Ask several peers; one that sees this node at another address than loopback knows best."""
        network = self._wire.network
        peers = network.connected_peers()
        SystemRandom().shuffle(peers)
        timeout = self._options.deadlines.pings / 1000
        asked = [network.dial_back(peer, port, timeout) for peer in peers[:DIALLERS]]
        answers = await asyncio.gather(*asked)
        if not answers:
            return DialBack(False, "", "no peer is connected that could dial the port back")
        return max(answers, key=lambda answer: (answer.open, not answer.host.startswith("127.")))

    def _own_host(self) -> str:
        for address in self._wire.addresses():
            parts = address.split("/")
            if len(parts) > 2 and parts[1] in ("ip4", "ip6"):
                return parts[2]
        return "127.0.0.1"

    async def _measure_pings(self, command: MeasurePings) -> None:
        timeout = self._options.deadlines.pings / 2000
        measured: dict[str, tuple[int, ...]] = {}
        for peer, (host, port) in command.targets.items():
            measured[peer] = await self._ping(
                peer, host, port, command.samples, timeout / len(command.targets)
            )
        self._tell(PingsMeasured(command.attempt, measured))

    async def _ping(self, peer: str, host: str, port: int, samples: int, timeout: float) -> tuple[int, ...]:
        """Ping a member where it is connected from, never where it merely says it is."""
        network = self._wire.network
        if not network.remote_ips(peer):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout / 2):
                    await self._connect(peer)
        seen = network.remote_ips(peer)
        target = host if host in seen else next(iter(sorted(seen)), None)
        if target is None or not port:
            return ()
        try:
            return tuple(await store.ping(target, port, samples=samples, timeout=timeout))
        except StoreError:
            return ()

    async def _connect(self, peer: str) -> None:
        """Dial a member that this node has had no reason to talk to yet."""
        for address in self._wire.network.known_peers().get(peer, []):
            with contextlib.suppress(TransportError):
                await self._wire.network.connect(address)
                return

    async def _promote(self) -> None:
        """Leave the master of an earlier attempt."""
        if self._server is not None:
            with contextlib.suppress(StoreError):
                await self._server.promote()

    async def _replicate(self, command: Replicate) -> None:
        reason = ""
        try:
            if self._server is None:
                raise StoreError("this node has no Redis server")
            path = await self._forward(command.master, "replica")
            await self._server.replicate_from(path, timeout=self._options.deadlines.ready * 0.75 / 1000)
        except (StoreError, TransportError) as error:
            reason = str(error)
        self._tell(Replicated(command.attempt, reason))

    async def _forward(self, peer: str, purpose: str) -> Path:
        path = await self._wire.network.forward(peer, REDIS_PROTOCOL, f"{self.task} {purpose}")
        self._forwards.append(path)
        return path

    async def _endpoint(self, peer: str) -> Path:
        """A socket at which the trainer reaches a server as a member."""
        if peer == self._wire.network.peer_id:
            if self._server is None:
                raise StoreError("this node has no Redis server")
            return self._server.gate_path("store")
        return await self._forward(peer, "store")

    async def _train(self, attempt: int, plan: Plan) -> None:
        others = [peer for peer in plan.nodes if peer != self._wire.network.peer_id]
        seconds = self._options.deadlines.lost / 1000
        try:
            async with watched(self._wire.network, others, seconds) as met:
                event = await self._trained(attempt, plan, met)
        except MlnetError as error:
            self._tell(TrainingStopped(attempt, str(error)))
            if self._trainer is not None:
                await self._trainer.stop()
        else:
            self._tell(event)

    async def _trained(self, attempt: int, plan: Plan, met: Callable[[], None]) -> Event:
        """Fetch and train; ``met`` is called once all members have met."""
        me = self._wire.network.peer_id
        rank, trainer = plan.nodes.index(me), self._trainer
        if trainer is None:
            raise TrainingError("the trainer process did not start")
        self._members = frozenset(plan.nodes)
        self._store_members &= self._members
        paths = await self._fetch_segments(attempt, plan, rank)
        segments = tuple(
            Segment(str(paths[index]) if index in paths else None, segment.hash, segment.rows)
            for index, segment in enumerate(plan.segments)
        )
        request = TrainingPlan(
            definition=task_definition.to_plain(self._definition),
            seed=plan.digest,
            rank=rank,
            world=len(plan.nodes),
            segments=segments,
            inputs=plan.inputs,
            host=detour.address(self.task, attempt, rank) if self._options.tunnel_training else plan.host,
            detour=str(await self._open_detours(attempt, plan.nodes)),
            endpoints=tuple([str(await self._endpoint(peer)) for peer in (plan.master, plan.slave)]),
            task=self.task,
            attempt=attempt,
            output=str(self._directory / MODEL),
            rendezvous_timeout_s=self._rendezvous(plan) / 1000,
            step_timeout_s=self._options.deadlines.step / 1000,
            threads=self._options.terms.resources.cpus,
            max_parameters=self._options.terms.max_parameters,
        )
        async for event in trainer.run(request):
            met()
            if isinstance(event, Finished):
                return self._finished(attempt, plan, event)
            self._tell(TrainingProgressed(attempt))
        raise TrainingError("the trainer ended without a result")

    async def _open_detours(self, attempt: int, nodes: Sequence[str]) -> Path:
        """Where the trainer asks for ways to members that are reached by way of the tunnel."""
        await self._close_detours()
        control = self._runtime / f"d{attempt}"
        self._detours = Detours(self._wire.network, control, self.task, attempt, nodes)
        self._detours.start()
        return control

    async def _close_detours(self) -> None:
        detours, self._detours = self._detours, None
        if detours is not None:
            await detours.stop()

    def _rendezvous(self, plan: Plan) -> int:
        """ms for all ranks to meet: the slowest may still download while the others wait."""
        waits = self._options.deadlines
        return waits.fetch(sum(segment.size for segment in plan.segments)) + waits.load + waits.rendezvous

    async def _fetch_segments(self, attempt: int, plan: Plan, rank: int) -> dict[int, Path]:
        """The segments that hold this rank's rows."""
        wanted = shards.segments_of([segment.rows for segment in plan.segments], rank, len(plan.nodes))
        total = sum(plan.segments[index].size for index in wanted)
        if total > self._options.disk:
            raise DataError(f"the segments take {total} bytes, this node allows {self._options.disk}")
        paths: dict[int, Path] = {}
        for index in wanted:
            segment = plan.segments[index]
            destination = self._directory / f"{segment.hash}.segment"
            paths[index] = await holders.fetch_segment(
                self._wire,
                (self.client, *plan.nodes),
                plan.links[index],
                segment,
                destination,
                self._options.policy,
            )
            self.blobs[segment.hash] = paths[index]
            self._tell(TrainingProgressed(attempt))
        return paths

    def _finished(self, attempt: int, plan: Plan, event: Finished) -> TrainingFinished:
        self.model = Path(event.model)
        self.blobs[event.sha256] = self.model
        return TrainingFinished(
            attempt=attempt,
            metrics={name: _bounded(value) for name, value in event.metrics.items()},
            accuracy=event.accuracy,
            sha256=event.sha256,
            size=event.size,
            contributions=dict(zip(plan.nodes, event.rows_trained, strict=True)),
        )


def _bounded(metric: float) -> float:
    """A figure that a message can carry; a loss that has run away is as bad at its bound."""
    return max(-MAX_METRIC, min(MAX_METRIC, metric))

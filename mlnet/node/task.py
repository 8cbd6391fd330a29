"""A node's resources for one task, and which of them executes which command."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

from mlnet.driver.messenger import Wire
from mlnet.driver.options import NodeOptions
from mlnet.errors import MlnetError
from mlnet.net import addresses
from mlnet.net.types import DialBack
from mlnet.node import offer
from mlnet.node.redis import TaskRedis
from mlnet.node.training import TaskTraining
from mlnet.protocol.commands import (
    Command,
    MeasurePings,
    PrepareRedis,
    Replicate,
    ServeModel,
    ServeStore,
    StartTraining,
)
from mlnet.protocol.events import Event, RedisPrepared, Restarted
from mlnet.task import schema
from mlnet.util import files, hosts
from mlnet.util.wording import TASK_LENGTH

logger = logging.getLogger(__name__)


class NodeTask:
    """A node's resources for one task.

    Args:
        task: its id.
        client: peer id.
        definition: of the task.
        wire: the node's messenger.
        options: the operator's.
        directory: directory for segments and the model.
        runtime: names the directory for sockets, which is another one once somebody has removed it.
        tell: takes the events with which effects end.
    """

    def __init__(
        self,
        task: str,
        client: str,
        definition: schema.TaskDefinition,
        wire: Wire,
        options: NodeOptions,
        directory: Path,
        runtime: Callable[[], Path],
        tell: Callable[[Event], None],
    ) -> None:
        self.task = task
        self.client = client
        self._wire, self._options = wire, options
        self._place, self._runtime = runtime, runtime()
        self._tell = tell
        self._redis = TaskRedis(task, client, wire, options, self._runtime)
        self._training = TaskTraining(
            task, client, definition, wire, self._redis, options, directory, runtime, tell
        )
        self._jobs: set[asyncio.Task[None]] = set()
        self._forming: set[asyncio.Task[None]] = set()
        self._watches: set[asyncio.Task[None]] = set()
        self._attempt = 0
        self._replicates = False

    # ------------------------------------------------------------------------------------------- commands

    def carry_out(self, command: Command) -> None:
        """Begin what a command of :attr:`effects` asks for; its end comes as an event."""
        if getattr(command, "attempt", 0) > self._attempt:
            self._begin(getattr(command, "attempt", 0))
        self.effects[type(command)](self, command)

    def _begin(self, attempt: int) -> None:
        """End what belongs to an earlier attempt: its measurements, admissions and replication."""
        self._attempt = attempt
        for job in self._forming:
            job.cancel()
        self._redis.serve(frozenset(), "")
        if self._replicates:
            self._replicates = False
            self._start(self._redis.promote())

    async def release(self) -> None:
        """Stop servers and children, close sockets, keep the model."""
        jobs = [job for job in self._jobs if job is not asyncio.current_task()]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        try:
            async with AsyncExitStack() as ends:  # all of them, even if one fails, from the last to the first
                ends.callback(lambda: shutil.rmtree(self._place(), ignore_errors=True))
                ends.callback(shutil.rmtree, self._runtime, ignore_errors=True)
                ends.callback(self._training.drop_segments)
                ends.push_async_callback(self._redis.stop)
                ends.push_async_callback(self._training.stop)
        except (OSError, MlnetError) as error:
            reason = files.why(error) if isinstance(error, OSError) else str(error)
            logger.error("what task %s leaves cannot be removed: %s", self.task[:TASK_LENGTH], reason)

    def restore_model(self, sha256: str) -> None:
        """ServeModel a model that a former process has left."""
        self._training.restore_model(sha256)

    # --------------------------------------------------------------------------------- what peers may have

    def admit(self, peer: str, purpose: str) -> Path | None:
        """The socket of this node's server for a purpose; None when that peer may not use it."""
        return self._redis.admit(peer, purpose)

    def admit_rank(self, peer: str, attempt: str) -> tuple[str, int] | None:
        """The address at which this node's trainer listens for a peer's trainer; None to refuse."""
        return self._training.admit_rank(peer, attempt)

    def find_blob(self, peer: str, digest: str) -> Path | None:
        """The file of a verified segment or of the model; None when there is none for that peer."""
        return self._training.find_blob(peer, digest)

    # ------------------------------------------------------------------------------------------- effects

    def _start(self, job: Coroutine[None, None, None], group: set[asyncio.Task[None]] | None = None) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._job_done)
        if group is not None:
            group.add(task)
            task.add_done_callback(group.discard)

    def _unwatch(self) -> None:
        """Stop watching the processes: from now on the training notices their end itself.

        The trainer's end is seen by the code that downloads for it and reads its events. The Redis servers
        are needed only until the trainers have met: trainers fail over from the master to the slave, and
        report it when neither answers. Afterwards gloo does not use the store, so the end of a server must
        not end a training that can be completed.
        """
        for watch in self._watches:
            watch.cancel()

    def _job_done(self, job: asyncio.Task[None]) -> None:
        """An effect that raises is a bug, or the machine lacks something. Either way the cluster is told at
        once that this node is out."""
        self._jobs.discard(job)
        if job.cancelled() or (error := job.exception()) is None:
            return
        if isinstance(error, OSError | MlnetError):
            reason = files.why(error) if isinstance(error, OSError) else str(error)
            logger.error("task %s cannot go on: %s", self.task[:TASK_LENGTH], reason)
            self._tell(Restarted(f"the node cannot go on: {reason}"))
            return
        logger.error("internal error in task %s", self.task[:TASK_LENGTH], exc_info=error)
        self._tell(Restarted(f"internal error of this node: {type(error).__name__}: {error}"))

    async def _prepare_redis(self) -> None:
        offer.check_room(self._options)
        try:
            self._runtime.mkdir(mode=0o700, exist_ok=True)
            # torch leaves directories in TMPDIR; here they are removed with the task.
            await self._training.start(os.environ | {"TMPDIR": str(self._runtime)})
            # Both processes may wait for minutes until they are used. If one of them ends before that, the
            # node leaves the task at once (_job_done).
            self._start(self._training.died(), self._watches)
            await self._redis.start()
            self._start(self._redis.died(), self._watches)
            found, port = await self._redis.dialled_back()
        except (MlnetError, OSError) as error:
            found, port = DialBack(False, "", f"no Redis server: {error}"), 0
        wire = self._wire
        host = found.host or next(map(addresses.host_of, wire.addresses()), hosts.loopback())
        # Behind a NAT no socket of this machine can have the address that others see, so gloo cannot listen
        # on it.
        tunnel = self._options.tunnel_training or not addresses.is_own(host)
        self._tell(RedisPrepared(found.open, host, port, wire.addresses(), found.reason, tunnel))

    async def _tell_pings(self, command: MeasurePings) -> None:
        self._tell(await self._redis.measure_pings(command))

    async def _tell_replicated(self, command: Replicate) -> None:
        self._tell(await self._redis.replicate(command))

    def _begin_redis(self, _: PrepareRedis) -> None:
        self._start(self._prepare_redis())

    def _measure_pings(self, command: MeasurePings) -> None:
        self._start(self._tell_pings(command), self._forming)

    def _serve(self, command: ServeStore) -> None:
        self._redis.serve(frozenset(command.members), command.slave)

    def _replicate(self, command: Replicate) -> None:
        self._replicates = True
        self._start(self._tell_replicated(command), self._forming)

    def _train(self, command: StartTraining) -> None:
        self._unwatch()
        self._start(self._training.train(command.attempt, command.assignment))

    def _offer(self, _: ServeModel) -> None:
        self._start(self.release())

    effects: ClassVar[Mapping[type[Command], Callable[[Any, Any], None]]] = {
        PrepareRedis: _begin_redis,
        MeasurePings: _measure_pings,
        ServeStore: _serve,
        Replicate: _replicate,
        StartTraining: _train,
        ServeModel: _offer,
    }
    """Commands whose effect is of one task alone, and what begins it."""

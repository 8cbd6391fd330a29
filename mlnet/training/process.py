"""The trainer process from its parent's side. torch is imported in the child only.

A child, because a model or a dataset may be hostile, memory may run out, and a thread that gloo blocks in C++
can only be ended with its process (docs/adr/0008-trainer-child-process.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import msgspec

from mlnet.errors import DataError, HashMismatch, LabelError, MlnetError, StoreError, TrainingError
from mlnet.task import definition as task_definition
from mlnet.task.schema import TaskDefinition
from mlnet.training.ipc import (
    ChildReady,
    Event,
    Failed,
    Finished,
    Plan,
    Scored,
    ScoreJob,
    TrainingProgress,
    TrainJob,
    decode_event,
    encode,
)
from mlnet.util import files, subprocesses

START_SECONDS = 120.0
"""Seconds for the child to import torch: one or two usually, many on a busy machine or a slow disk. The time
passes
while the cluster still forms."""
SCORE_SECONDS = 600.0
"""Seconds to measure a model on the held-back segments."""

_MARGIN_SECONDS = 20.0
"""Seconds beyond the child's own deadlines: the child can say what it waited for, the parent only that it is
silent."""
_GRACE_SECONDS = 1.0
"""Seconds for a child to end by itself after its last output, and after SIGTERM."""
_TAIL_BYTES = 4096
"""Bytes of the child's standard error that are kept: enough for the last line of a traceback."""
_ERRORS: dict[str, type[MlnetError]] = {
    error.__name__: error for error in (DataError, HashMismatch, LabelError, StoreError, TrainingError)
}


class Trainer:
    """A child process that imports torch at once and then waits for one job.

    Start it while there is something else to wait for; :meth:`stop` it in any case.

    Args:
        process: the child, from :meth:`start`.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._tail = bytearray()
        self._ready = False
        self._drain = asyncio.create_task(self._keep_tail(), name="trainer-stderr")

    @classmethod
    async def start(
        cls, *, threads: int = 1, memory: int | None = None, env: Mapping[str, str] | None = None
    ) -> Trainer:
        """Start the child.

        Args:
            threads: processor threads that it may use.
            memory: bytes that it may allocate beyond what torch itself needs; None for no limit.
            env: its environment; None for this process's own.

        Raises:
            TrainingError: it cannot be started.
        """
        argv = subprocesses.python("mlnet.training.worker", str(os.getpid()))
        if memory is not None:
            argv.append(str(memory))
        environment = subprocesses.environment(env)
        # OpenMP and MKL read these when torch is imported.
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        # A Rust library that panics because memory is short needs more memory to print a backtrace.
        environment["RUST_BACKTRACE"] = "0"
        pipe = asyncio.subprocess.PIPE
        try:
            process = await subprocesses.spawn(argv, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)
        except OSError as error:
            raise TrainingError(
                f"the trainer cannot be started: {files.why(error)}; is there memory left?"
            ) from error
        return cls(process)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    async def ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until the child has imported torch.

        Raises:
            TrainingError: it has ended, or is not ready in time.
        """
        if not self._ready:
            event = await self._event(seconds, "to import torch")
            if not isinstance(event, ChildReady):
                raise TrainingError(f"the trainer said {type(event).__name__} before it was ready")
            self._ready = True

    async def run(
        self, job: Plan, seconds: float = SCORE_SECONDS
    ) -> AsyncIterator[TrainingProgress | Finished | Scored]:
        """Execute a job; the child ends with it.

        Args:
            job: what to do.
            seconds: timeout of a ScoreJob; a TrainJob brings its own deadlines.

        Yields:
            Progress, and last Finished or Scored.

        Raises:
            TrainingError: with the child's reason; also when it dies, or is silent beyond the job's
                deadlines.
            DataError: a file that it was given is not valid.
        """
        await self.ready()
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - it was opened as a pipe
        try:
            stdin.write(encode(job) + b"\n")
            await stdin.drain()
            stdin.close()
        except (BrokenPipeError, ConnectionResetError):
            raise await self._death() from None
        if isinstance(job, TrainJob):
            seconds = job.rendezvous_timeout_s + job.step_timeout_s
        # The child's own deadlines pass first, because it can say more about what it waits for.
        event = await self._event(seconds + _MARGIN_SECONDS, "to begin")
        while isinstance(event, TrainingProgress):
            yield event
            if isinstance(job, TrainJob):
                seconds = job.step_timeout_s
            event = await self._event(seconds + _MARGIN_SECONDS, "for a training step")
        if isinstance(event, Failed):
            raise _ERRORS.get(event.error, TrainingError)(event.reason)
        if isinstance(event, ChildReady):
            raise TrainingError("the trainer said Ready a second time")
        yield event

    async def score(self, model: Path, segments: Sequence[Path], definition: TaskDefinition) -> Scored:
        """Measure a model in the child, because the model comes from the network.

        Args:
            model: its file, whose hash has been verified.
            segments: the held-back segments.
            definition: what the model must be.

        Raises:
            DataError: the model is not what the definition describes, or a segment cannot be read.
            TrainingError: its answers are not finite, or the child failed.
        """
        job = ScoreJob(task_definition.to_plain(definition), str(model), tuple(map(str, segments)))
        async for event in self.run(job):
            if isinstance(event, Scored):
                return event
        raise TrainingError("the scoring process ended without a result")

    async def died(self) -> str:
        """Wait until the child ends; return how it ended, with the last line of its standard error. Not
        together with
        :meth:`run`."""
        await self._process.wait()
        return await self._end()

    async def stop(self) -> None:
        """End the child, whatever it is doing. May be called again."""
        await subprocesses.end(self._process, _GRACE_SECONDS)
        await self._drain

    async def _event(self, seconds: float, purpose: str) -> Event:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - it was opened as a pipe
        try:
            async with asyncio.timeout(seconds):
                line = await stdout.readline()
        except TimeoutError:
            raise TrainingError(f"the trainer took more than {seconds:g} s {purpose}") from None
        except ValueError as error:
            raise TrainingError(
                f"the trainer wrote a line of more than {subprocesses.LINE_LIMIT} bytes"
            ) from error
        if not line:
            raise await self._death()
        try:
            return decode_event(line)
        except msgspec.DecodeError as error:
            raise TrainingError(f"the trainer wrote {line[:80]!r}: {error}") from error

    async def _death(self) -> TrainingError:
        """The error for a child that has closed its output."""
        # Give it time to end by itself: its exit status says why, and a signal of ours would replace it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                await self._process.wait()
        return TrainingError(f"the {await self._end()}")

    async def _end(self) -> str:
        status = await subprocesses.end(self._process, _GRACE_SECONDS)
        # Shielded: several may wait for the last output, and one of them may be cancelled.
        await asyncio.shield(self._drain)
        lines = self._tail.decode(errors="replace").strip().splitlines()
        words = f": {lines[-1][:300]}" if lines else ""
        return f"trainer ended ({subprocesses.how_it_ended(status)}){words}"

    async def _keep_tail(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None  # noqa: S101 - it was opened as a pipe
        while chunk := await stderr.read(_TAIL_BYTES):
            self._tail += chunk
            del self._tail[:-_TAIL_BYTES]

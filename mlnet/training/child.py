"""The jobs of the trainer's child process, and how it reports failures."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
import torch.distributed as dist

from mlnet import store
from mlnet.data.segments import read_segment, segment_inputs
from mlnet.errors import MlnetError, TrainingError
from mlnet.store import ProgressLog
from mlnet.task import definition as task_definition
from mlnet.training import architecture, evaluation, ipc, rendezvous
from mlnet.training.loop import train
from mlnet.training.model import load_model

# torch and gloo raise RuntimeError for everything; only the text tells a lost member from a bug.
_LOST = re.compile(
    r"closed by peer|reset by peer|connection refused|broken pipe|socket closed", re.IGNORECASE
)
_SILENT = re.compile(r"timed? ?out", re.IGNORECASE)
_MEMORY = re.compile(r"can't allocate memory|not enough memory", re.IGNORECASE)
_MAX_REASON = 500
"""Characters of a reason that go into a message to the other members."""


def carry_out(line: bytes, tell: Callable[[ipc.Event], None]) -> tuple[ipc.Event, int]:
    """Execute the job in one line of JSON.

    Args:
        line: a job.
        tell: called with progress events.

    Returns:
        The last event, and the exit status that goes with it.
    """
    try:
        command = ipc.decode_plan(line)
        torch.set_num_threads(command.threads)
        if isinstance(command, ipc.ScoreJob):
            return score(command), 0
        return _train(command, tell), 0
    except MlnetError as error:
        return ipc.Failed(type(error).__name__, str(error)[:_MAX_REASON]), error.exit_code
    # What torch, the system and a wrong parent raise. Any other error is a bug: its traceback goes to
    # standard error, whose last line the parent reports.
    except (RuntimeError, MemoryError, OSError, msgspec.DecodeError) as error:
        return ipc.Failed("TrainingError", explain(error)), TrainingError.exit_code


def _train(command: ipc.TrainJob, tell: Callable[[ipc.Event], None]) -> ipc.Finished:
    log = ProgressLog([Path(path) for path in command.endpoints], command.task, command.attempt)

    def report(progress: ipc.TrainingProgress) -> None:
        tell(progress)
        # One writer is enough: the metrics are those of all ranks.
        if command.rank == 0:
            log.append(
                store.Progress(
                    epoch=progress.epoch,
                    epochs=progress.epochs,
                    step=progress.step,
                    steps=progress.steps,
                    loss=progress.loss,
                    accuracy=progress.accuracy,
                    rank=0,
                )
            )

    rendezvous.join(command)
    finished = train(command, report)
    log.close()
    dist.destroy_process_group()
    return finished


def explain(error: Exception) -> str:
    """The meaning of an error of torch or of the system for the task, in one line."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:_MAX_REASON]
    if isinstance(error, MemoryError) or _MEMORY.search(text):
        return f"the trainer has not enough memory: raise the node's limit or use a smaller model ({text})"
    if _LOST.search(text):
        return f"a member of the cluster was lost during training ({text})"
    if _SILENT.search(text):
        return f"a member of the cluster went silent during training ({text})"
    return f"training failed: {text}"


def score(command: ipc.ScoreJob) -> ipc.Scored:
    """Measure a received model on segments that it has not been trained on.

    Raises:
        DataError: the model is not the one that the definition describes, or a segment cannot be read.
        TrainingError: its answers are not finite.
    """
    definition = task_definition.from_plain(command.definition)
    segments = [Path(path) for path in command.segments]
    expected = architecture.of_definition(definition, segment_inputs(segments[0]))
    model = load_model(command.model, expected)
    total = evaluation.no_sums()
    for path in segments:
        table = read_segment(
            path, inputs=expected.inputs, outputs=expected.outputs, classes=expected.classifier
        )
        total += evaluation.sums(model, torch.from_numpy(table.features), torch.from_numpy(table.labels))
    metrics = evaluation.metrics(total, classifier=expected.classifier)
    return ipc.Scored(
        metrics={name: metrics[name] for name in definition.ml.evaluation_metrics},
        accuracy=metrics.get("Accuracy"),
        loss=metrics[expected.loss],
        rows=int(total[0]),
    )

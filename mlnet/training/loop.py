"""The training loop, the same on every rank.

Each step's gradient is that of one machine that sees the rows of all ranks: a rank's loss is the sum over its
own rows times ``world / rows of the step``, and DistributedDataParallel takes the mean over the ranks.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from mlnet.data.segments import permutation, read_segment
from mlnet.errors import DataError, HashMismatch, TrainingError
from mlnet.kernels import segmenthash
from mlnet.task import definition as task_definition
from mlnet.task.segments import Segment
from mlnet.training import architecture, evaluation, partition
from mlnet.training.architecture import Architecture
from mlnet.training.ddp import replicate
from mlnet.training.ipc import Finished, TrainingProgress, TrainJob
from mlnet.training.model import Model, build, save_model
from mlnet.training.optimizer import FunctionalOptimizer

_PROGRESS_SECONDS = 0.1
"""Seconds between two reports within an epoch. Each one is a line for the parent and a write to Redis."""
_DRIFT = 1e-3
"""The relative and absolute difference of weights, within an epoch, that different rounding of processors can
explain."""


def train(job: TrainJob, report: Callable[[TrainingProgress], None]) -> Finished:
    """Train with the other ranks of an initialised process group, and write the model.

    Args:
        job: what to do.
        report: called with the progress, about ten times a second and at the end of each epoch.

    Raises:
        TrainingError: training diverged, or the ranks disagree on the model.
        DataError: a segment cannot be read, or the model cannot be written.
        RuntimeError: from torch, when another rank is lost.
    """
    began = time.monotonic()
    definition = task_definition.from_plain(job.definition)
    spec = definition.ml.optimizer
    description = architecture.of_definition(definition, job.inputs)
    # Before the model is built: a definition of a few bytes may ask for any size.
    description.require_parameters(job.max_parameters)

    segment_rows = [segment.rows for segment in job.segments]
    if not all(segment_rows):
        raise DataError("a segment of the task has no rows; have the client cut its dataset again")
    cut = partition.cut(sum(segment_rows), job.world, definition.ml.validation.strategy.size)
    shard = cut[job.rank]
    features, labels = load_rows(job, description, shard)
    trained, validation = slice(0, shard.trained), slice(shard.trained, None)
    if not any(each.validated for each in cut):
        validation = trained  # so few rows that no rank can spare one

    # Dropout draws from torch's own generator: each rank its own values, the same at every repetition.
    torch.manual_seed(int.from_bytes(partition.seed(job.seed, "dropout", job.rank)[:8], "big") >> 1)
    model = build(description, spec.initializer, partition.seed(job.seed, "weights"))
    optimizer = FunctionalOptimizer(model.parameters(), definition.ml.optimizer)
    replica = replicate(model)
    criterion = functional.cross_entropy if description.classifier else squared_error
    steps = partition.steps(cut, spec.batch_size)
    reporter = ProgressReporter(spec.epochs, steps, report)

    metrics: dict[str, float] = {}
    for epoch in range(spec.epochs):
        # From the task's seed, not from torch's generator: whoever has the data can repeat the order.
        order = torch.from_numpy(
            permutation(shard.trained, partition.seed(job.seed, "rows", epoch, job.rank))
        )
        model.train()
        for step in range(steps):
            total = partition.batch_rows(cut, step, steps)
            # No rank has rows in this step. All ranks know that, so none waits for another.
            if not total:
                continue
            start, stop = partition.batch(cut, job.rank, step, steps)
            rows = order[start:stop]
            optimizer.zero_grad()
            # A rank without rows in this step runs it all the same: backward() is a collective operation.
            loss = criterion(replica(features[rows]), labels[rows], reduction="sum")
            torch.autograd.backward(loss * (job.world / total))
            optimizer.step()
            reporter.step(epoch, step, loss, len(rows))
        align(model)
        metrics = reduced_metrics(model, features[validation], labels[validation])
        reporter.epoch(epoch, metrics[description.loss], metrics.get("Accuracy"))
    # Before the process group is destroyed (child.py): in the other order DDP's destructor deadlocks.
    del replica

    output = Path(job.output)
    save_model(model, output)
    content = output.read_bytes()
    sha256 = hashlib.sha256(content)
    # The file itself, not the weights: its hash is what every member signs.
    require_agreement(sha256.digest(), job.world)
    return Finished(
        metrics={name: metrics[name] for name in definition.ml.evaluation_metrics},
        accuracy=metrics.get("Accuracy"),
        loss=metrics[description.loss],
        model=job.output,
        sha256=sha256.hexdigest(),
        size=len(content),
        rows_trained=partition.rows_trained(
            segment_rows, job.world, definition.ml.validation.strategy.size, spec.epochs
        ),
        steps=spec.epochs * steps,
        seconds=round(time.monotonic() - began, 3),
    )


def load_rows(job: TrainJob, description: Architecture, shard: partition.Shard) -> tuple[Tensor, Tensor]:
    """Features float32 (rows, inputs) and labels of this rank's shard.

    Raises:
        DataError: a segment is missing or not what it should be.
    """
    features = [torch.empty(0, description.inputs)]
    labels = [
        torch.empty(0, dtype=torch.int64) if description.classifier else torch.empty(0, description.outputs)
    ]
    for part in partition.parts([segment.rows for segment in job.segments], shard.start, shard.stop):
        segment, file = job.segments[part.segment], job.files[part.segment]
        rows, targets = read_part(segment, file, part, description)
        features.append(rows)
        labels.append(targets)
    return torch.cat(features), torch.cat(labels)


def read_part(
    segment: Segment, file: str | None, part: partition.Part, description: Architecture
) -> tuple[Tensor, Tensor]:
    """Features and labels of a run of rows of a segment. Its hash is verified again: the file was written by
    another process, some time ago.

    Raises:
        DataError: the segment is missing or not what it should be.
    """
    if file is None:
        raise DataError(f"segment {segment.root} is needed and has not been fetched")
    path = Path(file)
    try:
        digest = segmenthash.digest_file(path).hex()
    except OSError as error:
        raise DataError(f"segment {path} cannot be read: {error.strerror}; fetch it again") from error
    if digest != segment.root:
        raise HashMismatch(f"segment {path} has the hash {digest}, expected {segment.root}; fetch it again")
    table = read_segment(
        path,
        inputs=description.inputs,
        outputs=description.outputs,
        classes=description.classifier,
        rows=segment.rows,
    )
    rows = slice(part.start, part.stop)
    return torch.from_numpy(table.features[rows]), torch.from_numpy(table.labels[rows])


def squared_error(outputs: Tensor, targets: Tensor, reduction: str) -> Tensor:
    """Squared error of each row, the mean over its outputs, summed over the rows."""
    return functional.mse_loss(outputs, targets, reduction=reduction) / outputs.shape[1]


@torch.no_grad()
def align(model: Model) -> None:
    """Give every rank the weights of rank 0.

    They are equal already where all processors round alike. Otherwise they differ in the last bits, which
    must not accumulate, and must not give the ranks' files different hashes.

    Raises:
        TrainingError: a rank's weights differ by more than rounding explains. Raised on every rank.
    """
    own = torch.cat([weight.reshape(-1) for weight in model.parameters()])
    first = own.clone()
    dist.broadcast(first, 0)
    drifted = torch.tensor([not torch.allclose(own, first, rtol=_DRIFT, atol=_DRIFT, equal_nan=True)])
    drifted = drifted.to(torch.uint8)
    dist.all_reduce(drifted, dist.ReduceOp.MAX)
    if drifted.item():
        raise TrainingError("the members' models have drifted apart: a member does not follow the protocol")
    position = 0
    for weight in model.parameters():
        weight.copy_(first[position : position + weight.numel()].view_as(weight))
        position += weight.numel()


def reduced_metrics(model: Model, features: Tensor, labels: Tensor) -> dict[str, float]:
    """Metrics over the rows of all ranks, equal on every rank.

    Raises:
        TrainingError: training has diverged. Raised on every rank.
    """
    total = evaluation.sums(model, features, labels)
    dist.all_reduce(total)
    return evaluation.metrics(total, classifier=model.architecture.classifier)


def require_agreement(digest: bytes, world: int) -> None:
    """Compare the hash of the model over all ranks.

    Raises:
        TrainingError: it is not the same everywhere. Raised on every rank.
    """
    own = torch.frombuffer(bytearray(digest), dtype=torch.uint8)
    everyone = [torch.empty_like(own) for _ in range(world)]
    dist.all_gather(everyone, own)
    different = [rank for rank, other in enumerate(everyone) if not torch.equal(other, everyone[0])]
    if different:
        raise TrainingError(f"the members disagree on the model: ranks {different} have another than rank 0")


class ProgressReporter:
    """Reports progress at a bounded rate."""

    def __init__(self, epochs: int, steps: int, report: Callable[[TrainingProgress], None]) -> None:
        self._epochs, self._steps, self._report = epochs, steps, report
        self._next = 0.0

    def step(self, epoch: int, step: int, loss: Tensor, rows: int) -> None:
        """A step is done, with the sum of the losses of this rank's rows."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _PROGRESS_SECONDS
        mean = float(loss.detach()) / rows if rows else math.nan
        self._tell(epoch, step + 1, round(mean, 6) if math.isfinite(mean) else None)

    def epoch(self, epoch: int, loss: float, accuracy: float | None) -> None:
        """An epoch is over, with the metrics of all ranks."""
        self._tell(epoch, self._steps, loss, accuracy, end=True)

    def _tell(
        self, epoch: int, step: int, loss: float | None, accuracy: float | None = None, *, end: bool = False
    ) -> None:
        self._report(
            TrainingProgress(
                epoch + 1,
                self._epochs,
                epoch * self._steps + step,
                self._epochs * self._steps,
                loss,
                accuracy,
                end,
            )
        )

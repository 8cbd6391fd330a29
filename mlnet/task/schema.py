"""The task definition as frozen structs. :mod:`mlnet.task.definition` makes them; nothing else should.

The YAML spells ``min-nodes`` what is ``min_nodes`` here. A value that has passed
:func:`mlnet.task.definition.load` keeps every bound and rule that is written here. A ``...Spec`` says what is
wanted; the dataset, model, cluster or optimizer itself is a class of another package.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from mlnet.task.fields import amount_micro, duration_ms, size_bytes
from mlnet.task.layers import AnyUnit, Dense, parameter_count
from mlnet.task.segments import SEGMENTS

MAX_PARAMETERS: Final = 2**31
"""Of a model: 8 GiB of float32. Operators set a limit of their own below it."""
MAX_LAYERS: Final = 64
MAX_EPOCHS: Final = 1_000_000
MAX_BATCH: Final = 2**20
MAX_PAYMENT: Final = 10**12
"""In units. In micro-units it is 10^18, the largest amount of a message, which fits 63 bits."""
MAX_NODES: Final = 1024
"""Members of a cluster: what the codec's limits of size and items leave room for in CLUSTER_MEMBERS."""
MAX_COMMITTEE: Final = 64
"""Seats of the committee. Its members ping and message one another, so the work grows with the square."""
MAX_CPUS: Final = 65_536
"""Processor threads: the most that a node can offer in INIT_CLUSTER."""
MAX_PATH: Final = 4096
"""Characters: Linux' PATH_MAX."""
MAX_COLUMNS_NAMED: Final = 4096
"""Of a table, in one list; a definition of 64 KiB holds no more with names of ten characters."""
MAX_CLASSES: Final = 4096

Format = Literal["MNIST", "CSV", "NPZ"]
Scale = Literal["auto", "none", "1/255"]
Decimal = Literal[".", ","]
Method = Literal["Holdout"]
Loss = Literal["CrossEntropy", "MSE"]
Metric = Literal["Accuracy", "CrossEntropy", "MSE"]
OptimizerType = Literal["SGD", "Adam", "AdamW"]
InitializerName = Literal["Xavier", "Kaiming", "Normal", "Uniform", "Zeros"]
KaimingMode = Literal["fan_in", "fan_out"]
Nonlinearity = Literal["relu", "leaky_relu", "tanh", "sigmoid", "linear"]


class _Part(msgspec.Struct, frozen=True, rename="kebab"):
    """Base of the parts, with the YAML's spelling of the keys."""


class Payment(_Part, frozen=True):
    """What the client pays for the model.

    Attributes:
        best_model_payment_amount: the amount that the nodes share, as decimal text.
    """

    best_model_payment_amount: str

    @property
    def micro(self) -> int:
        """The amount in micro-units."""
        return amount_micro(self.best_model_payment_amount)


class SourceSpec(_Part, frozen=True, omit_defaults=True):
    """Where the dataset lies: paths relative to the definition's file, or http(s):// links.

    A path may be that of a directory, whose files are read in the order of their names.

    Attributes:
        features: file or directory of the features; the only one of a CSV, and of an NPZ that holds
            ``features`` and ``labels``.
        labels: file or directory of the labels, if it is another one.
    """

    features: str
    labels: str | None = None


class DatasetSpec(_Part, frozen=True, omit_defaults=True):
    """The dataset, and how much of it trains.

    Attributes:
        format: format of the source files.
        training_set_size: share of the ten segments that trains, 0.1 to 0.9: the first of the voted order.
        test_set_size: share that the client holds back to score the model, 0.1 to 0.9.
        source: where the files are.
        sha256: SHA-256 of the bytes of ``source.features``, followed by those of ``source.labels`` if that is
            another file; of a directory, of all its files. By default it is not checked.
        scale: what the features are multiplied by: ``auto`` is 1/255 for unsigned bytes, such as pixels, and
            nothing for any other type.
        classes: the labels in the order of the model's outputs; by default those that are found, sorted.
        delimiter: character between two values; by default the one that fits.
        header: whether the first line names the columns; ``auto``, the default, decides by its looks.
        label_column: name of the label's column, or its position from 0 or, if negative, from the end; by
            default the last one.
        ignore_columns: names or positions of columns that are neither features nor label; by default those
            that certainly only number the rows.
        category_columns: names or positions of columns each of whose values is an input, 1 or 0; columns of a
            few texts that repeat are such by default.
        decimal: the decimal point; by default what it looks like.
        comment: how a line of comment begins; by default ``#`` where it cannot be a value.
    """

    format: Format
    training_set_size: float
    test_set_size: float
    source: SourceSpec
    sha256: str | None = None
    scale: Scale = "auto"
    classes: tuple[int | str, ...] = ()
    delimiter: str | None = None
    header: bool | None = None
    label_column: str | int | None = None
    ignore_columns: tuple[str | int, ...] | None = None
    category_columns: tuple[str | int, ...] = ()
    decimal: Decimal | None = None
    comment: str | None = None

    @property
    def held_out_segments(self) -> int:
        """Segments that the client holds back, 1 to 9."""
        return round(self.test_set_size * SEGMENTS)

    @property
    def training_segments(self) -> int:
        """Segments that train, 1 to 9."""
        return SEGMENTS - self.held_out_segments


class Strategy(_Part, frozen=True):
    """How accuracy is measured while training.

    Attributes:
        method: ``Holdout``: the model never trains on a fixed share of the training rows.
        size: that share.
    """

    method: Method
    size: float


class Validation(_Part, frozen=True):
    """The validation of a model.

    Attributes:
        strategy: how accuracy is measured.
    """

    strategy: Strategy


class SgdParameters(msgspec.Struct, frozen=True):
    """Parameters of stochastic gradient descent, as ``torch.optim.SGD`` defines them.

    Attributes:
        learning_rate: factor of each step.
        momentum: share of the last step that the next one keeps.
        weight_decay: factor of the weights that is added to the gradient.
        dampening: share of the gradient that the momentum leaves out.
        nesterov: take the gradient where the momentum leads to; needs a momentum and no dampening.
    """

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False


class AdamParameters(msgspec.Struct, frozen=True):
    """Parameters of Adam (Kingma and Ba, 2015) and AdamW (Loshchilov and Hutter, 2019), as ``torch.optim``
    defines them.

    Attributes:
        learning_rate: factor of each step.
        weight_decay: factor of the weights, which Adam adds to the gradient, and AdamW takes from the
            weights.
        beta1: decay of the mean of the gradients.
        beta2: decay of the mean of their squares.
        eps: added to the denominator.
        amsgrad: use the largest mean of the squares so far.
    """

    learning_rate: float
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    amsgrad: bool = False


class Xavier(msgspec.Struct, frozen=True):
    """Uniform in +-gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010).

    Attributes:
        gain: factor of the range.
    """

    gain: float = 1.0


class Kaiming(msgspec.Struct, frozen=True):
    """Uniform in +-gain(nonlinearity) * sqrt(3 / fan) (He et al., 2015).

    Attributes:
        mode: which fan: inputs or outputs of the layer.
        nonlinearity: what the gain is for; the slope of leaky_relu is 0.01.
    """

    mode: KaimingMode = "fan_in"
    nonlinearity: Nonlinearity = "relu"


class Normal(msgspec.Struct, frozen=True):
    """A normal distribution.

    Attributes:
        mean: of the weights.
        std: standard deviation.
    """

    mean: float = 0.0
    std: float = 0.01


class Uniform(msgspec.Struct, frozen=True):
    """A uniform distribution in [low, high).

    Attributes:
        low: lower end.
        high: upper end.
    """

    low: float = -0.05
    high: float = 0.05


class Zeros(msgspec.Struct, frozen=True):
    """All weights zero."""


class Initializer(_Part, frozen=True):
    """How the weights begin. Biases begin at zero.

    Attributes:
        name: name of the method.
        parameters: parameters of that method.
    """

    name: InitializerName = "Xavier"
    parameters: Xavier | Kaiming | Normal | Uniform | Zeros = Xavier()


class OptimizerSpec(
    msgspec.Struct,
    frozen=True,
    rename={
        "parameters": "optimizer_initialization_parameters",
        "batch_size": "batch-size",
    },
):
    """How the model learns.

    Attributes:
        type: which optimizer.
        parameters: parameters of that optimizer.
        epochs: passes over the training rows.
        batch_size: rows of one step, over all nodes together.
        initializer: how the weights begin.
    """

    type: OptimizerType
    parameters: SgdParameters | AdamParameters
    epochs: int
    batch_size: int
    initializer: Initializer


class ModelSpec(_Part, frozen=True):
    """A multilayer perceptron.

    Attributes:
        type: a multilayer perceptron.
        hidden_units: the layers, first to last; the last one is Dense, and its nodes are the model's outputs.
        loss: ``CrossEntropy`` makes it a classifier of as many classes as it has outputs, ``MSE`` a
            regression.
    """

    type: Literal["MLP"]
    hidden_units: tuple[AnyUnit, ...]
    loss: Loss

    @property
    def dense(self) -> list[Dense]:
        """The Dense layers."""
        return [unit for unit in self.hidden_units if isinstance(unit, Dense)]

    @property
    def outputs(self) -> int:
        """Nodes of the last layer."""
        return self.dense[-1].nodes

    def parameter_count(self, inputs: int) -> int:
        """Weights and biases of the model for rows of that many features."""
        return parameter_count((unit.layer for unit in self.hidden_units), inputs)


class Ml(_Part, frozen=True):
    """What is trained, on what, and how.

    Attributes:
        dataset: the data.
        validation: how accuracy is measured while training.
        optimizer: how the model learns.
        model: the model.
        evaluation_metrics: what is measured on the validation rows and on the held-back segments.
    """

    dataset: DatasetSpec
    validation: Validation
    optimizer: OptimizerSpec
    model: ModelSpec
    evaluation_metrics: tuple[Metric, ...]


class Requirements(_Part, frozen=True):
    """What a node must offer to take part.

    Attributes:
        memory: memory for the task.
        cpus: processor threads for the task.
    """

    memory: str = "0B"
    cpus: int = 0

    @property
    def memory_bytes(self) -> int:
        """The memory in bytes."""
        return size_bytes(self.memory) or 0


class ClusterSpec(_Part, frozen=True):
    """How the cluster forms.

    Attributes:
        waiting_period: how long nodes may answer.
        min_nodes: the task fails with fewer; by default 2, or ``min-committee-size`` if that is more.
        max_nodes: this many answers end the waiting period; by default 64, or ``min-nodes`` if that is more.
        max_committee_size: seats of the committee; by default 5, or ``min-committee-size`` if that is more.
        min_committee_size: the task fails with fewer candidates; a master and a replica are the least.
        sealed_votes: whether members commit to their votes before the client names the members.
        requirements: what a node must offer to take part.
    """

    waiting_period: str = "15m"
    min_nodes: int = 2
    max_nodes: int = 64
    max_committee_size: int = 5
    min_committee_size: int = 2
    sealed_votes: bool = True
    requirements: Requirements = Requirements()

    @property
    def waiting_period_ms(self) -> int:
        """The waiting period in milliseconds."""
        return duration_ms(self.waiting_period) or 0


class TaskDefinition(_Part, frozen=True):
    """A whole definition.

    Attributes:
        version: version of this schema.
        payment: what the client pays.
        ml: what is trained, on what, and how.
        cluster: how the cluster forms.
    """

    version: Literal[1]
    payment: Payment
    ml: Ml
    cluster: ClusterSpec

    @property
    def payment_micro(self) -> int:
        """The payment in micro-units."""
        return self.payment.micro

    @property
    def held_out_segments(self) -> int:
        """Segments that the client holds back."""
        return self.ml.dataset.held_out_segments

    @property
    def training_segments(self) -> int:
        """Segments that train."""
        return self.ml.dataset.training_segments

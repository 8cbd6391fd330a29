"""The task definition as frozen structs. :mod:`mlnet.task.definition` makes them; nothing else should.

The YAML spells ``min-nodes`` what is ``min_nodes`` here. A value that has
passed :func:`mlnet.task.definition.load` keeps every bound and rule that is written here.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, Literal

import msgspec

from mlnet.task.fields import amount_micro, duration_ms, size_bytes

SEGMENTS: Final = 10
MAX_PARAMETERS: Final = 2**31
MAX_NODES_PER_LAYER: Final = 2**20
MAX_LAYERS: Final = 64
MAX_EPOCHS: Final = 1_000_000
MAX_BATCH: Final = 2**20
MAX_PAYMENT: Final = 10**12
MAX_CLUSTER: Final = 1024
MAX_COMMITTEE: Final = 64
MAX_CPUS: Final = 65_536
MAX_PATH: Final = 4096
MAX_COLUMNS_NAMED: Final = 4096
MAX_CLASSES: Final = 4096

Format = Literal["MNIST", "CSV", "NPZ"]
Scale = Literal["auto", "none", "1/255"]
Decimal = Literal[".", ","]
Method = Literal["Holdout"]
Activation = Literal["Linear", "ReLU", "LeakyReLU", "GELU", "Tanh", "Sigmoid", "Softmax"]
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
        best_model_payment_amount: decimal text with at most six places, such as ``100`` or ``12.5``.
    """

    best_model_payment_amount: str

    @property
    def micro(self) -> int:
        """The amount in micro-units."""
        return amount_micro(self.best_model_payment_amount)


class Source(_Part, frozen=True, omit_defaults=True):
    """Where the dataset lies: paths relative to the definition's file, or http(s):// links.

    A path may be that of a directory, whose files are read in the order of their names.

    Attributes:
        features: the only file of a CSV, and of an NPZ that holds ``features`` and ``labels``.
        labels: the second file, if there is one.
    """

    features: str
    labels: str | None = None


class Dataset(_Part, frozen=True, omit_defaults=True):
    """The dataset, and how much of it trains.

    Attributes:
        format: of the source files.
        sha256: plain SHA-256, hex, of the bytes of ``source.features`` followed by those of ``source.labels``
            if that is another file; of directories, of all their files. Checked before the dataset is cut.
        training_set_size: share of the ten segments that trains, in tenths; the first of the voted order.
        test_set_size: share that the client holds back; the two sum to 1.
        source: the files.
        scale: what the features are multiplied by: 1/255, none, or, if they are unsigned bytes, as pixels are
            (auto).
        classes: labels in the order of the model's outputs; empty for those that are found, sorted.
        delimiter: CSV only: one character between two values; None for the one that fits.
        header: CSV only: whether the first line names the columns; None for what it looks like.
        label_column: CSV only: its name, or its position from 0 or, if negative, from the end; None is the
        last.
        ignore_columns: CSV only: names or positions of columns that are no features; None leaves out what
            certainly only numbers the rows.
        category_columns: CSV only: names or positions of columns whose values are categories, beside those of
            texts that certainly are.
        decimal: CSV only: the decimal point; None for what it looks like.
        comment: CSV only: how a line of comment begins; None for what it looks like.
    """

    format: Format
    training_set_size: float
    test_set_size: float
    source: Source
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
        method: Holdout: the model never trains on a fixed share of the training rows.
        size: that share, above 0 and below 1.
    """

    method: Method
    size: float


class Validation(_Part, frozen=True):
    """The validation of a model."""

    strategy: Strategy


class SgdParameters(msgspec.Struct, frozen=True):
    """Of stochastic gradient descent; ``nesterov`` needs a momentum and no dampening."""

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False


class AdamParameters(msgspec.Struct, frozen=True):
    """Of Adam (Kingma and Ba, 2015) and of AdamW (Loshchilov and Hutter, 2019), which decouples the decay."""

    learning_rate: float
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    amsgrad: bool = False


class Xavier(msgspec.Struct, frozen=True):
    """Uniform in +-gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""

    gain: float = 1.0


class Kaiming(msgspec.Struct, frozen=True):
    """Uniform in +-gain(nonlinearity) * sqrt(3 / fan) (He et al., 2015); the slope of leaky_relu is 0.01."""

    mode: KaimingMode = "fan_in"
    nonlinearity: Nonlinearity = "relu"


class Normal(msgspec.Struct, frozen=True):
    """A normal distribution."""

    mean: float = 0.0
    std: float = 0.01


class Uniform(msgspec.Struct, frozen=True):
    """A uniform distribution in [low, high)."""

    low: float = -0.05
    high: float = 0.05


class Zeros(msgspec.Struct, frozen=True):
    """All weights zero."""


class Initializer(_Part, frozen=True):
    """How the weights begin. Biases begin at zero.

    Attributes:
        name: of the method.
        parameters: the struct of that method.
    """

    name: InitializerName = "Xavier"
    parameters: Xavier | Kaiming | Normal | Uniform | Zeros = Xavier()


class Optimizer(
    msgspec.Struct,
    frozen=True,
    rename={
        "parameters": "optimizer_initialization_parameters",
        "batch_size": "batch-size",
    },
):
    """How the model learns.

    Attributes:
        type: of the optimizer.
        parameters: SgdParameters for SGD, AdamParameters for the others.
        epochs: passes over the training rows.
        batch_size: rows of one step over all nodes together.
        initializer: how the weights begin.
    """

    type: OptimizerType
    parameters: SgdParameters | AdamParameters
    epochs: int
    batch_size: int
    initializer: Initializer

    @property
    def arguments(self) -> dict[str, float | bool | tuple[float, float]]:
        """Keyword arguments of the class of that name in ``torch.optim``."""
        given = self.parameters
        arguments: dict[str, float | bool | tuple[float, float]] = {
            "lr": given.learning_rate,
            "weight_decay": given.weight_decay,
        }
        if isinstance(given, SgdParameters):
            return arguments | {
                "momentum": given.momentum,
                "dampening": given.dampening,
                "nesterov": given.nesterov,
            }
        return arguments | {"betas": (given.beta1, given.beta2), "eps": given.eps, "amsgrad": given.amsgrad}


class Dense(_Part, frozen=True, tag_field="type", tag="Dense"):
    """A fully connected layer.

    Attributes:
        id: the author's name for it, unique in the model.
        nodes: its outputs.
        activation: applied to each of them.
    """

    id: int | str
    nodes: int
    activation: Activation


class Dropout(_Part, frozen=True, tag_field="type", tag="Dropout"):
    """Zeroes values at random while training.

    Attributes:
        id: the author's name for it, unique in the model.
        rate: probability of each value, 0 to below 1.
    """

    id: int | str
    rate: float


class Model(_Part, frozen=True):
    """A multilayer perceptron.

    Attributes:
        type: MLP.
        hidden_units: layers, first to last; the last is Dense, and its nodes are the model's outputs.
        loss: CrossEntropy makes it a classifier of as many classes as it has outputs.
    """

    type: Literal["MLP"]
    hidden_units: tuple[Dense | Dropout, ...]
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
        widths = [inputs, *(unit.nodes for unit in self.dense)]
        return sum((before + 1) * after for before, after in pairwise(widths))


class Ml(_Part, frozen=True):
    """What is trained, on what, and how."""

    dataset: Dataset
    validation: Validation
    optimizer: Optimizer
    model: Model
    evaluation_metrics: tuple[Metric, ...]


class Requirements(_Part, frozen=True):
    """What a node must offer to take part.

    Attributes:
        memory: such as ``512MiB``.
        cpus: processor threads.
    """

    memory: str = "0B"
    cpus: int = 0

    @property
    def memory_bytes(self) -> int:
        """The memory in bytes."""
        return size_bytes(self.memory) or 0


class Cluster(_Part, frozen=True):
    """How the cluster forms.

    Attributes:
        waiting_period: how long nodes may answer, such as ``15m``.
        min_nodes: fewer end the task.
        max_nodes: so many end the waiting period early.
        max_committee_size: seats of the committee.
        min_committee_size: fewer candidates end the task; at least 2, a master and a slave.
        sealed_votes: the votes of the committee are committed to before the members are named.
        requirements: what a node must offer.
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
    """A whole definition."""

    version: Literal[1]
    payment: Payment
    ml: Ml
    cluster: Cluster

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

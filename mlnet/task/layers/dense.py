"""``type: Dense``: a fully connected layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from msgspec import Meta

from mlnet.task.fields import Section
from mlnet.task.layers.base import Layer, Unit
from mlnet.task.problems import Problems

MAX_NODES_PER_LAYER: Final = 2**20
"""The widest layer: two such beside each other exceed the parameters of any model (schema.MAX_PARAMETERS)."""
MAX_WIDTH: Final = 1 << 31
"""Inputs of a layer: one row of as many weights is all that a model may have."""
LEAKY_SLOPE: Final = 0.01
"""torch's default. The initializer Kaiming computes its gain from the same."""
Activation = Literal["Linear", "ReLU", "LeakyReLU", "GELU", "Tanh", "Sigmoid", "Softmax"]
Width = Annotated[int, Meta(ge=1, le=MAX_WIDTH)]

_MODULES: dict[Activation, Callable[[Any], Any]] = {
    "Linear": lambda nn: nn.Identity(),
    "ReLU": lambda nn: nn.ReLU(),
    "LeakyReLU": lambda nn: nn.LeakyReLU(LEAKY_SLOPE),
    "GELU": lambda nn: nn.GELU(),
    "Tanh": lambda nn: nn.Tanh(),
    "Sigmoid": lambda nn: nn.Sigmoid(),
    "Softmax": lambda nn: nn.Softmax(dim=1),
}


class DenseLayer(Layer, frozen=True, tag="Dense"):
    """A fully connected layer and its activation.

    Attributes:
        nodes: outputs of the layer.
        activation: applied to each of them.
    """

    nodes: Width
    activation: Activation = "Linear"

    def width(self, before: int) -> int:
        """One value a node."""
        return self.nodes

    def shapes(self, before: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Weights, a row of them a node, and biases."""
        yield "weight", (self.nodes, before)
        yield "bias", (self.nodes,)

    def modules(self, nn: Any, before: int, device: str, *, scores: bool) -> Iterator[tuple[str, Any]]:
        """See :class:`Layer`; scores have no activation."""
        yield "", nn.Linear(before, self.nodes, device=device)
        if not scores:
            yield f"-{self.activation}", _MODULES[self.activation](nn)


class Dense(Unit, frozen=True, tag="Dense"):
    """A fully connected layer.

    Attributes:
        id: the author's name for it, unique in the model.
        nodes: outputs of the layer.
        activation: applied to each of them; the last layer's is ``Linear`` by default.
    """

    KEYS: ClassVar = ("id", "type", "nodes", "activation")

    nodes: int
    activation: Activation

    @classmethod
    def read(cls, section: Section, name: int | str, *, last: bool) -> Dense:
        """See :class:`Unit`; the last layer need not name its activation."""
        nodes = section.integer("nodes", 1, MAX_NODES_PER_LAYER)
        names: tuple[Activation, ...] = get_args(Activation)
        activation = (
            section.choice("activation", names, "Linear") if last else section.choice("activation", names)
        )
        if activation == "Softmax" and not last:
            section.wrong("activation", "Softmax is for the last layer", "write ReLU, for example")
        return cls(name, nodes, activation)

    def check_output(self, problems: Problems, path: str, loss: str | None) -> None:
        """See :class:`Unit`."""
        if loss != "CrossEntropy":
            return
        if self.nodes < 2 and problems.sound(f"{path}.nodes"):
            fix = "write the number of classes"
            problems.add(f"{path}.nodes", "CrossEntropy tells at least 2 classes apart", fix)
        if self.activation not in ("Linear", "Softmax") and problems.sound(f"{path}.activation"):
            fix = "write Softmax, or leave it out"
            problems.add(f"{path}.activation", f"CrossEntropy does not go with {self.activation}", fix)

    @property
    def layer(self) -> DenseLayer:
        """See :class:`Unit`."""
        return DenseLayer(self.nodes, self.activation)

    @property
    def summary(self) -> str:
        """See :class:`Unit`."""
        return f"{self.nodes} {self.activation}"

"""``type: Dropout``: zeroes values at random while training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from mlnet.task.fields import Section
from mlnet.task.layers.base import Layer, Unit
from mlnet.task.problems import Problems


class DropoutLayer(Layer, frozen=True, tag="Dropout"):
    """Zeroes values at random while training.

    Attributes:
        rate: probability of each value, 0 to below 1.
    """

    rate: Annotated[float, Meta(ge=0, lt=1)]

    def modules(self, nn: Any, before: int, device: str, *, scores: bool) -> Iterator[tuple[str, Any]]:
        """See :class:`Layer`."""
        yield "", nn.Dropout(self.rate)


class Dropout(Unit, frozen=True, tag="Dropout"):
    """Zeroes values at random while training.

    Attributes:
        id: the author's name for it, unique in the model.
        rate: probability of each value.
    """

    KEYS: ClassVar = ("id", "type", "rate")

    rate: float

    @classmethod
    def read(cls, section: Section, name: int | str, *, last: bool) -> Dropout:
        """See :class:`Unit`."""
        return cls(name, section.number("rate", 0, 1, bounds="[)"))

    def check_output(self, problems: Problems, path: str, loss: str | None) -> None:
        """See :class:`Unit`; a model ends with what it says."""
        fix = "end with a Dense layer: its nodes are the model's outputs"
        problems.add(path, "the last layer is Dropout", fix)

    @property
    def layer(self) -> DropoutLayer:
        """See :class:`Unit`."""
        return DropoutLayer(self.rate)

    @property
    def summary(self) -> str:
        """See :class:`Unit`."""
        return f"dropout {self.rate:g}"

"""What a type of layer has to say of itself: to authors, to model files and to torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Self

import msgspec

from mlnet.task.fields import Section
from mlnet.task.problems import Problems


class Layer(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True):
    """A layer as a model file describes it; its bounds are checked when a file is read.

    A subclass has the layer's type as its ``tag``.
    """

    def width(self, before: int) -> int:
        """Values of a row behind the layer, of ``before`` in front of it."""
        return before

    def shapes(self, before: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of each parameter, for rows of ``before`` values."""
        yield from ()

    def modules(self, nn: Any, before: int, device: str, *, scores: bool) -> Iterator[tuple[str, Any]]:
        """What computes the layer, one after the other.

        Args:
            nn: ``torch.nn``; only :mod:`mlnet.training` loads it.
            before: values of a row in front of the layer.
            device: for parameters.
            scores: the layer is the last of a classifier, whose loss takes scores as they are.

        Yields:
            A suffix of the layer's number, empty for the module that has the parameters, and the module.
        """
        raise NotImplementedError


class Unit(msgspec.Struct, frozen=True, rename="kebab", tag_field="type"):
    """A layer as a task definition has it, below ``ml.model.hidden-units``.

    Attributes:
        KEYS: of its mapping.
        id: the author's name for it, unique in the model.
    """

    KEYS: ClassVar[tuple[str, ...]]

    id: int | str

    @classmethod
    def read(cls, section: Section, name: int | str, *, last: bool) -> Self:
        """Read the layer; what is wrong is noted in the section.

        Args:
            section: its mapping.
            name: its id.
            last: no layer follows.
        """
        raise NotImplementedError

    def check_output(self, problems: Problems, path: str, loss: str | None) -> None:
        """Note why the layer, as the last, cannot make what the loss takes; None is an unknown loss."""
        raise NotImplementedError

    @property
    def layer(self) -> Layer:
        """What a model file has of it."""
        raise NotImplementedError

    @property
    def summary(self) -> str:
        """A few words for people."""
        raise NotImplementedError

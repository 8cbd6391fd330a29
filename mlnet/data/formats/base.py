"""What a format whose files hold arrays has to say of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from mlnet.data.schema import Kind
from mlnet.data.table import AnyArray, DatasetLimits

Part = Literal["features", "labels"]


class ArrayFormat(Protocol):
    """A format whose files hold arrays, for training and for predict; a module can be one.

    Attributes:
        KIND: how features stand in every file of the format; None where the array tells.
        LABELS_APART: labels always have a file of their own.
    """

    KIND: Kind | None
    LABELS_APART: bool

    def is_one(self, path: Path) -> bool:
        """Whether a file looks like one of this format."""
        ...

    def holds_labels(self, path: Path) -> bool:
        """Whether a file of this format holds labels and nothing else, as far as its shape tells."""
        ...

    def read(self, path: Path, part: Part, limits: DatasetLimits, *, alone: bool) -> AnyArray:
        """An array of rows.

        Args:
            path: the file.
            part: what is wanted of it.
            limits: refused beyond these.
            alone: the file holds nothing else than that part.

        Raises:
            DataError: the file cannot be read or lacks it; the message names it and a fix.
        """
        ...

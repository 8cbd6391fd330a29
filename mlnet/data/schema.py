"""What the client knows of its dataset beyond the numbers, so that new rows are read as the training's were.

The client alone writes it, into the model that it hands to its user (:mod:`mlnet.data.modelfile`): names of
columns and classes are the user's own matter and never travel to nodes.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mlnet.errors import DataError
from mlnet.task.schema import Format

MAX_BYTES = 16 << 20
"""Of a schema as JSON; a table whose names take more is refused."""
MAX_CATEGORIES = 4096
"""Of one column."""
PIXEL = 255
"""The largest unsigned byte: what scales a pixel to 0 to 1."""

ClassName = int | str
Kind = Literal["bytes", "integers", "numbers"]
"""How features stand in their file: unsigned bytes, whole numbers, or any numbers."""
Position = Annotated[int, Meta(ge=0, lt=1 << 31)]


class Dialect(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What somebody has said of how a table stands in its file; None is left to what it looks like.

    Attributes:
        delimiter: between two values.
        header: whether a line names the columns.
        decimal: the decimal point.
        comment: with which a line of comment begins.
    """

    delimiter: str | None = None
    header: bool | None = None
    decimal: str | None = None
    comment: str | None = None


class Schema(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The columns of a dataset, their scaling, and its classes.

    Attributes:
        format: of the file.
        inputs: of the model: a feature each, or as many as a feature has categories.
        kind: type of the features in the file, categories apart.
        divisor: what training divided them by: 255 or 1.
        classes: of a classifier, by output of the model, as the user writes them; empty for a regression.
        width: CSV only: columns of a row of the file.
        names: CSV only: of all these columns; empty where no line names them.
        label: CSV only: place of the label's column, from 0.
        ignored: CSV only: places of columns that are neither feature nor label.
        categories: CSV only: by place of a column of texts, its categories in the order of the inputs.
        dialect: CSV only: what the definition said of the file.
        counted: CSV only: its first row is 0, 1, 2, ..., which would be taken for names elsewhere.
        version: of this description.
    """

    format: Format
    inputs: Annotated[int, Meta(ge=1, le=1 << 31)]
    kind: Kind = "numbers"
    divisor: Literal[1, 255] = 1
    classes: tuple[ClassName, ...] = ()
    width: Position = 0
    names: tuple[str, ...] = ()
    label: Position | None = None
    ignored: tuple[Position, ...] = ()
    categories: dict[Position, tuple[str, ...]] = {}
    dialect: Dialect = Dialect()
    counted: bool = False
    version: Literal[1] = 1

    @property
    def features(self) -> list[int]:
        """CSV only: places of the features in the file, in the order in which the model takes them."""
        left_out = {*self.ignored, self.label}
        return [place for place in range(self.width) if place not in left_out]

    @property
    def numbers(self) -> int:
        """Features that are no categories, each an input of the model."""
        return self.inputs - sum(map(len, self.categories.values()))

    def to_json(self) -> str:
        """The schema as a model file carries it.

        Raises:
            DataError: it is too long.
        """
        content = msgspec.json.encode(self)
        if len(content) > MAX_BYTES:
            raise DataError(
                f"the names of columns and classes take more than {MAX_BYTES} bytes; shorten them"
            )
        return content.decode()


def from_json(text: str, path: object) -> Schema:
    """The schema in a model file; ``path`` is for the error message.

    Raises:
        DataError: it is none, or contradicts itself.
    """
    try:
        schema = msgspec.json.decode(text, type=Schema)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise DataError(f"{path} has no valid description of its dataset: {error}; get it again") from error
    places = [*schema.ignored, *(() if schema.label is None else (schema.label,))]
    delimiter = schema.dialect.delimiter
    consistent = (
        (delimiter is None or (len(delimiter) == 1 and delimiter not in '"\r\n'))
        and len(set(places)) == len(places)
        and all(place < schema.width for place in places)
        and len(schema.names) in (0, schema.width)
        and (schema.format != "CSV" or schema.width - len(places) - len(schema.categories) == schema.numbers)
        and all(
            place < schema.width
            and place not in places
            and 1 <= len(set(values)) == len(values) <= MAX_CATEGORIES
            for place, values in schema.categories.items()
        )
    )
    if not consistent:
        raise DataError(f"{path}: its description of the dataset contradicts itself; get it again")
    return schema

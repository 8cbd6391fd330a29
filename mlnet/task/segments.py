"""Segments: the ten parts into which the dataset of a task is cut, as everybody who has to do with the task
knows them. Which file a segment lies in is known to those only who have one."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

SEGMENTS: Final = 10
"""Parts of a dataset. A definition counts the training segments in tenths, so that shares are written with
one decimal; every ballot ranks all of them, so more would make each ballot longer."""

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}\\Z")]
Rows = Annotated[int, Meta(ge=0, le=10**12)]
Size = Annotated[int, Meta(ge=0, le=10**15)]


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the ten parts of a dataset. Messages, the client's directory and the trainer have it alike.

    Attributes:
        root: root of its file's hash tree, see :mod:`mlnet.kernels.segmenthash`; its name on the network.
            ``hash`` in messages and files.
        size: bytes of its file.
        rows: rows of the dataset in it.
    """

    root: Sha256 = msgspec.field(name="hash")
    size: Size
    rows: Rows

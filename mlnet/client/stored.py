"""What a client keeps of a task beside its journal, so that a later process can take the task up."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mlnet import data
from mlnet.driver.data_dir import State
from mlnet.errors import ConfigError
from mlnet.task.segments import Segment
from mlnet.util import files, local_json

STORED = "dataset.json"
"""In the directory of a client's task."""


class Stored(msgspec.Struct, frozen=True):
    """What a client needs beside the journal to take a task up again.

    Attributes:
        segments: as they are announced.
        files: their names in the directory of the task.
        inputs: features of a row.
        outputs: columns of the labels.
        output: directory for the model.
        peers: to find the network with.
        schema: of the dataset.
        allowed: peer ids that may take part; None for those that the client's options allow.
    """

    segments: tuple[Segment, ...]
    files: tuple[str, ...]
    inputs: int
    outputs: int
    output: str
    peers: tuple[str, ...] = ()
    schema: data.Schema | None = None
    allowed: tuple[str, ...] | None = None


def write_stored(directory: Path, stored: Stored) -> None:
    """Keep it in the directory of its task. OSError where it cannot be written."""
    files.replace(directory / STORED, local_json.encode(stored))


def read_stored(state: State, task: str) -> Stored | None:
    """What is kept of a task beside its journal; None where it cannot be read."""
    try:
        return local_json.decode((state.task(task) / STORED).read_bytes(), Stored)
    except (OSError, msgspec.MsgspecError):
        return None


def find_unfinished(state: State, task: str) -> str:
    """The unfinished task whose id begins so.

    Raises:
        ConfigError: there is none, or more than one.
    """
    found = [name for name in state.unfinished() if name.startswith(task)]
    if len(found) != 1:
        raise ConfigError(_no_single_task(task, found, state.unfinished()))
    return found[0]


def _no_single_task(beginning: str, found: list[str], unfinished: list[str]) -> str:
    if found:
        return (
            f"{len(found)} unfinished tasks begin with {beginning}: {', '.join(found)}; write more of the id"
        )
    known = f"unfinished are {', '.join(unfinished)}" if unfinished else "there is none in the data directory"
    return f"no unfinished task begins with {beginning}; {known}"

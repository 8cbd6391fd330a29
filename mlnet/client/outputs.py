"""The directory in which a user finds the model: looked at before a task is announced, filled when it is
over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from mlnet import data
from mlnet.client.result import ModelFile, Result
from mlnet.client.stored import STORED
from mlnet.data.modelfile import MODEL
from mlnet.errors import ConfigError, MlnetError, StorageError
from mlnet.util import files, local_json

RESULT = "result.json"
KEPT = "; the model is kept at "
FIX = "choose another directory with --output"
_OURS = frozenset({MODEL, RESULT, f"{MODEL}.part", f"{RESULT}.part"})


def absolute(folder: Path) -> Path:
    """The directory, whatever the current one is later."""
    return folder.absolute()


def check(folder: Path, *, private: Path, task: str = "", size: int = 0) -> None:
    """Make sure that a model can be delivered to a directory. Nothing is made there.

    Args:
        folder: it.
        private: the client's data directory, whose content comes and goes.
        task: what a former process may have delivered in part.
        size: bytes of the model.

    Raises:
        ConfigError: it is no place for a model.
        StorageError: it cannot be written, or there is no room.
    """
    if folder.resolve().is_relative_to((private / "tasks").resolve()):
        raise ConfigError(f"{folder} lies in {private}, where mlnet keeps its own files; {FIX}")
    with files.written_to(folder, FIX):
        if os.path.lexists(folder) and not folder.is_dir():
            what = "a file" if folder.exists() else "a dangling symbolic link"
            raise ConfigError(f"{folder} is {what}; {FIX}")
        if folder.is_dir() and not _is_free(folder, task):
            raise ConfigError(f"{folder} is not empty; {FIX}")
        above = files.existing(folder)
        if not above.is_dir():
            raise ConfigError(f"{above} is not a directory, so that {folder} cannot be made; {FIX}")
        files.check_writable(folder, FIX)
        files.require_room(folder, size, "the model takes", FIX)


def deliver(
    folder: Path, model: Path, result: Result, schema: data.Schema | None, *, private: Path
) -> Result:
    """Give the model and the document to the user, in this order: the document says that all is there.

    The model stays where it is as well. What fails leaves the directory as it was.

    Args:
        folder: the user's.
        model: as the members signed it.
        result: of the task.
        schema: of the dataset, which the user's file describes, too.
        private: the client's data directory.

    Returns:
        The result with the model's new place.

    Raises:
        MlnetError: it cannot be done; see :func:`check`.
        OSError: likewise.
    """
    check(folder, private=private, task=result.task)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        delivered = _placed(result, model, folder, schema)
        delivered.write(folder / RESULT)
    except OSError:
        files.remove(folder / MODEL)
        for path in made:
            _remove_empty(path)
        raise
    return delivered


def rescue(result: Result, places: Iterable[Path]) -> Result:
    """Move a model that could not be delivered out of a directory that is about to go.

    Args:
        result: of :func:`undelivered`.
        places: directories to try, the best first; each is made.
    """
    if result.model is None:
        return result
    model, tried = Path(result.model.path), []
    for place in places:
        folder = place / f"mlnet-{result.task[:12]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept = _placed(result, model, folder, _schema_beside(model))
        except OSError as error:
            tried.append(f"{folder} ({files.why(error)})")
            continue
        reason = f"{result.reason.partition(KEPT)[0]}{KEPT}{folder / MODEL}"
        return msgspec.structs.replace(kept, reason=reason)
    reason = f"{result.reason.partition(KEPT)[0]}; it could not be kept either: {', '.join(tried)}"
    return msgspec.structs.replace(result, model=None, reason=reason)


def undelivered(result: Result, model: Path, error: OSError | MlnetError, resume: str) -> Result:
    """The result of a task whose model could not be delivered: it says where the model is."""
    reason = f"cannot be written: {files.why(error)}" if isinstance(error, OSError) else str(error)
    kept = f"{KEPT}{model}; deliver it with: {resume} --output DIR"
    return msgspec.structs.replace(
        result,
        reason=f"the task is completed, but its model was not delivered: {reason}{kept}",
        code=StorageError.__name__,
        model=msgspec.structs.replace(result.model, path=str(model)) if result.model else None,
    )


def _placed(result: Result, model: Path, folder: Path, schema: data.Schema | None) -> Result:
    """Write the user's model; the result with its place and hash. Raises OSError."""
    sha256 = data.deliver(model, folder / MODEL, schema)
    attested = result.model.attested if result.model else ""
    return msgspec.structs.replace(result, model=ModelFile(str(folder / MODEL), sha256, attested))


class _Beside(msgspec.Struct):
    """What is wanted of the file in which a client keeps its dataset."""

    schema: data.Schema | None = None


def _schema_beside(model: Path) -> data.Schema | None:
    """The schema that a client keeps in the directory of a task."""
    try:
        return local_json.decode((model.parent / STORED).read_bytes(), _Beside).schema
    except (OSError, msgspec.MsgspecError):
        return None  # the model without it is still the model


def _is_free(folder: Path, task: str) -> bool:
    names = {entry.name for entry in folder.iterdir()}
    if not names:
        return True
    if not task or not names <= _OURS:
        return False
    if RESULT not in names:
        return True
    try:
        return local_json.decode((folder / RESULT).read_bytes(), Result).task == task
    except (OSError, msgspec.MsgspecError):
        return False


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # somebody else's files are in it by now

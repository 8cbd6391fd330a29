"""Unix sockets: private directories for them, ways to a socket that survive the removal of its name, and the
lock that admits one process of a machine to an identity.

The kernel takes 107 bytes for a socket's path (unix(7)), and a user's directories may be longer, missing,
unwritable or on a file system without sockets. So several places are tried, and the first that works is
taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import socket
import stat
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mlnet.errors import ConfigError

logger = logging.getLogger(__name__)
LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""Bytes of the longest path of a unix socket: sun_path less its final zero."""
ROOM = 27
"""Bytes of the longest path of a socket below the directory of a node or client, with the slash before it."""
PREFIX = "mlnet."
SUFFIX_LENGTH = 8
"""Characters that :func:`tempfile.mkdtemp` adds."""
OUTER_ROOM = ROOM + 1 + len(PREFIX) + SUFFIX_LENGTH
"""The same below a directory that becomes the ``XDG_RUNTIME_DIR`` of other processes of mlnet."""
_CREDENTIALS = struct.Struct("3i")
"""struct ucred of SO_PEERCRED: process, user and group id."""


class SocketPlace(NamedTuple):
    """A directory below which sockets may lie.

    Attributes:
        path: of the directory.
        variable: the environment variable that names it; empty for a default.
    """

    path: Path
    variable: str = ""


class Directory:
    """A private directory for sockets. When somebody removes it, as logind does with ``/run/user/UID`` at
    logout, a new one is made elsewhere.

    Args:
        room: bytes that the paths below it need, with the slash before them.
        last: a directory to take when no other one works.
        note: called with a text when a place that the environment names does not work.

    Raises:
        ConfigError: sockets cannot be made anywhere.
    """

    def __init__(
        self, room: int = ROOM, last: Path | None = None, note: Callable[[str], object] = logger.warning
    ) -> None:
        self._room, self._last, self._note = room, last, note
        self._made: list[tuple[Path, int]] = []
        self._make()

    @property
    def path(self) -> Path:
        """The directory, which exists.

        Raises:
            ConfigError: it was removed, and sockets can be made nowhere else.
        """
        path, descriptor = self._made[-1]
        if not _is_same(path, descriptor):
            self._make()
            logger.warning("%s was removed while in use; new sockets lie in %s", path, self._made[-1][0])
        return self._made[-1][0]

    def close(self) -> None:
        """Remove the directories that were made."""
        while self._made:
            path, descriptor = self._made.pop()
            if _is_same(path, descriptor):
                shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)

    def _make(self) -> None:
        problems: list[str] = []
        for place in _places(self._last):
            try:
                made = _make_below(place.path, self._room)
            except OSError as error:
                named = f"{place.variable}={place.path}" if place.variable else str(place.path)
                problems.append(f"{named}: {error.strerror}")
                if place.variable:
                    self._note(f"{named} is not used for sockets: {error.strerror}")
                continue
            self._made.append(made)
            return
        tried = "; ".join(problems) or "none"
        raise ConfigError(f"no directory is fit for unix sockets (tried: {tried}); {fit(self._room)}")


def fit(room: int = ROOM) -> str:
    """What to do where the directory that the environment names is not fit for sockets."""
    return (
        "let XDG_RUNTIME_DIR name another directory: one that exists, that this user can write, and whose"
        f" absolute path has at most {_longest_base(room)} bytes"
    )


def _longest_base(room: int) -> int:
    return LONGEST_PATH - room - 1 - len(PREFIX) - SUFFIX_LENGTH


def _places(last: Path | None) -> Iterator[SocketPlace]:
    """The places for sockets, best first."""
    seen: set[Path] = set()
    for place in (
        *(
            SocketPlace(Path(os.environ[name]), name)
            for name in ("XDG_RUNTIME_DIR", "TMPDIR")
            if os.environ.get(name)
        ),
        *_default_places(),
        *([SocketPlace(last)] if last is not None else ()),
    ):
        if place.path not in seen:
            seen.add(place.path)
            yield place


def _default_places() -> tuple[SocketPlace, ...]:
    # tempfile.gettempdir() may return the current directory, which is not a place for sockets.
    return tuple(SocketPlace(Path(path)) for path in ("/tmp", "/var/tmp", "/dev/shm"))  # noqa: S108 - mkdtemp follows


def _make_below(base: Path, room: int) -> tuple[Path, int]:
    """A new private directory of ours, and a descriptor that locks it.

    Raises:
        OSError: it cannot be made, or no socket can be made in it.
    """
    if not base.is_absolute():
        raise OSError(0, "its path is not absolute")
    if len(os.fsencode(base)) > _longest_base(room):
        raise OSError(0, f"its path is longer than {_longest_base(room)} bytes")
    status = base.stat()
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise OSError(0, "every user can delete the files in it (set its sticky bit: chmod +t)")
    _sweep(base)
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        # The lock marks a directory as in use by a running process. A file system that cannot lock is not
        # swept either.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_same(path, descriptor):
            break
        os.close(descriptor)
    try:
        probe = path / "probe"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(probe))
        probe.unlink()
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)
        raise
    return path, descriptor


def _sweep(base: Path) -> None:
    """Remove directories that killed processes of ours have left: those whose lock is free."""
    with contextlib.suppress(OSError):
        for path in base.glob(f"{PREFIX}{'?' * SUFFIX_LENGTH}"):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    if os.fstat(descriptor).st_uid == os.geteuid():
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(descriptor)


def _is_same(path: Path, descriptor: int) -> bool:
    """Whether a path still names an open directory."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


class Way:
    """An address of a listening unix socket that works while it listens, even after its name is removed.

    On Linux it is ``/proc/self/fd/N``, for a descriptor of the socket's file (O_PATH); elsewhere, and without
    ``/proc``, it is the path.

    Args:
        path: of the socket.
    """

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._descriptor: int | None = None
        if not hasattr(os, "O_PATH"):
            return
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            address = f"/proc/self/fd/{descriptor}"
            try:
                led = os.stat(address)  # noqa: PTH116 - a string is wanted
                # The path may itself be the address of a way: a file in /proc, not a socket.
                leads = stat.S_ISSOCK(led.st_mode) and os.path.samestat(led, path.lstat())
            except OSError:
                leads = False
            if leads:
                self.address, self._descriptor = address, descriptor
            else:
                os.close(descriptor)

    @property
    def for_children(self) -> str:
        """The address for another process of this user, while this one lives."""
        return self.address.replace("/proc/self/", f"/proc/{os.getpid()}/", 1)

    def close(self) -> None:
        """Close the descriptor. The address must not be used afterwards: N may become another file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextlib.contextmanager
def alone(name: str, what: str) -> Iterator[None]:
    """Hold a lock by name: be the only process on this machine with it while the context lasts.

    The lock is a name in the abstract namespace of unix sockets. It needs no directory, so neither a copied
    directory nor an environment variable gets around it, and it ends with the process. Choose a name that
    others cannot guess.

    Args:
        name: at most 64 letters and digits.
        what: names what is held, for the error.

    Raises:
        ConfigError: another process holds it.
    """
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if sys.platform == "linux":
            _bind_lock(lock, f"\0mlnet-{name}", what)
        yield
    finally:
        lock.close()


def _bind_lock(lock: socket.socket, address: str, what: str) -> None:
    try:
        lock.bind(address)
        lock.listen(1)
    except OSError:
        process, user = _holder(address)
        if user not in (-1, 0, os.geteuid()):
            # Another user can see the name and take it, but must not be able to keep us from running.
            logger.warning("process %d of user %d holds the lock of %s", process, user, what)
            return
        who = f"process {process}" if process > 0 else "another process"
        raise ConfigError(
            f"{who} on this machine runs with the same identity as {what}, which seems to be a copy; stop "
            "that process, or choose another directory with --data-dir"
        ) from None


def _holder(address: str) -> tuple[int, int]:
    """The process and the user that hold a lock; -1 where that is unknown."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address)
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return -1, -1
    process, user, _ = _CREDENTIALS.unpack(credentials)
    return process, user

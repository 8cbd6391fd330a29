"""Where unix sockets lie: private directories that nobody could make beforehand, ways to a socket that
outlive its name, and the lock that keeps an identity to one process of a machine.

The kernel takes 107 bytes for a socket's path, and a user's directories may be longer, missing, unwritable
or on a file system without sockets. So several places are tried, and the first that serves is taken.
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
"""Bytes of the longest path of a unix socket."""
ROOM = 27
"""Bytes of the longest path of a socket below a party's directory, with the slash before it."""
PREFIX = "mlnet."
SUFFIX_LENGTH = 8
"""Characters that :func:`tempfile.mkdtemp` adds."""
OUTER_ROOM = ROOM + 1 + len(PREFIX) + SUFFIX_LENGTH
"""The same below a directory that is to be the ``XDG_RUNTIME_DIR`` of other processes."""
_CREDENTIALS = struct.Struct("3i")


class Place(NamedTuple):
    """A directory below which sockets may lie.

    Attributes:
        path: of the directory.
        variable: the environment variable that names it; empty for a default.
    """

    path: Path
    variable: str = ""


class Directory:
    """A private directory for sockets. It is made anew elsewhere when somebody removes it, as logind does
    with ``/run/user/UID`` at logout.

    Args:
        room: bytes that the paths below it need, with the slash before them.
        last: a directory to take when no other serves.
        note: told which place that the environment names does not serve, and why.

    Raises:
        ConfigError: sockets can be made nowhere.
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
        """Remove what was made."""
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


def _places(last: Path | None) -> Iterator[Place]:
    """Where sockets may lie, the best place first."""
    seen: set[Path] = set()
    for place in (
        *(
            Place(Path(os.environ[name]), name)
            for name in ("XDG_RUNTIME_DIR", "TMPDIR")
            if os.environ.get(name)
        ),
        *_default_places(),
        *([Place(last)] if last is not None else ()),
    ):
        if place.path not in seen:
            seen.add(place.path)
            yield place


def _default_places() -> tuple[Place, ...]:
    # gettempdir() may answer with the current directory, which is nobody's place for sockets.
    return tuple(Place(Path(path)) for path in ("/tmp", "/var/tmp", "/dev/shm"))  # noqa: S108 - mkdtemp follows


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
        # What is locked belongs to a process that runs; a file system that cannot lock is not swept either.
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
    """Remove directories that processes of ours have left which were killed."""
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
    """A way to a listening unix socket that leads there while it listens, though its name be removed.

    On Linux a descriptor of the socket's file leads there; elsewhere, and without ``/proc``, its path does.

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
                # The path may itself be the address of a way, whose file is none of a socket.
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
        """Let go of the socket; nobody may use the address after this."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextlib.contextmanager
def alone(name: str, what: str) -> Iterator[None]:
    """Be the only process on this machine with a name for as long as the context lasts.

    The lock is a name in the kernel's abstract namespace: it needs no directory, so neither a copy nor an
    environment variable leads around it, and it ends with the process. Choose a name that others cannot
    guess.

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
            # Whoever sees the name may take it, but must not keep us from running.
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

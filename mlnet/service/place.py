"""The unix socket of the API: ``api.sock`` in the node's data directory, for its user only."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

from mlnet.errors import ConfigError
from mlnet.util import files, sockets

NAME = "api.sock"
"""In the node's data directory."""


class Place:
    """Where the API's socket is made, and where it is found.

    It is made in a directory that only this user can enter, so that nobody connects before it has its
    permissions, and then moved. A file system without sockets gets a link to one elsewhere. The name may be
    longer than a socket's may be: who connects to it by ``/proc/self/fd`` does not mind.

    Args:
        directory: the node's data directory; the caller holds its lock.
        runtime: a private directory that is fit for sockets.
    """

    def __init__(self, directory: Path, runtime: Path) -> None:
        self.path = directory / NAME
        self._runtime = runtime
        self._private: Path | None = None
        self._descriptor: int | None = None
        self._made: Path | None = None

    def prepare(self) -> Path:
        """The path at which the server is to listen.

        Raises:
            ConfigError: no socket can be made.
        """
        try:
            self._private = Path(tempfile.mkdtemp(prefix="api.", dir=self.path.parent))
            made = self._short(self._private) / "s"
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.bind(os.fsencode(made))
            made.unlink()
            self._made = made
        except OSError:
            self._made = self._runtime / NAME
        return self._made

    def _short(self, directory: Path) -> Path:
        """A name of the directory that leaves room for that of a socket."""
        if len(os.fsencode(directory)) + 2 <= sockets.LONGEST_PATH or not hasattr(os, "O_PATH"):
            return directory
        self._descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return Path(f"/proc/self/fd/{self._descriptor}")

    def settle(self) -> None:
        """Give the socket that the server listens at its permissions and its name.

        Raises:
            ConfigError: it cannot be done.
        """
        made = self._made or self.path
        try:
            made.chmod(0o600)
            self.path.unlink(missing_ok=True)  # an earlier process has left it
            if made.parent == self._runtime:
                self.path.symlink_to(made)
            else:
                os.replace(made, self.path)  # noqa: PTH105 - one name for each call to the disk
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be made: {files.why(error)}; remove what is there, or choose another "
                "--data-dir"
            ) from error
        finally:
            self._clear()

    def _clear(self) -> None:
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)
            self._private = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def close(self) -> None:
        """Remove the socket."""
        self._clear()
        files.remove(self.path)
        if self._made is not None and self._made.parent == self._runtime:
            files.remove(self._made)

"""Where sockets lie, ways that outlive names, and the lock of an identity."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlnet.driver.data_dir import opened
from mlnet.errors import ConfigError
from mlnet.util import sockets


@pytest.fixture
def base() -> Iterator[Path]:
    """A short directory, for places below it."""
    path = Path(tempfile.mkdtemp(prefix="ms-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def take(monkeypatch: pytest.MonkeyPatch, *places: Path) -> None:
    """Have these be the places, after those of the environment, which names none."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(sockets, "_default_places", lambda: tuple(map(sockets.SocketPlace, places)))


@pytest.mark.parametrize(
    "name", ["run", "a b", "größe", "100%", "a%20b", "x#y", "x?y", "a,b", 'quo"te', "UPPER", "back\\slash"]
)
def test_any_name_of_a_directory_will_do(
    base: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = base / name
    place.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    directory = sockets.Directory()
    assert directory.path.parent == place
    assert directory.path.stat().st_mode & 0o777 == 0o700
    directory.close()
    assert list(place.iterdir()) == []
    assert not caplog.records


def missing(base: Path) -> Path:
    return base / "missing"


def long(base: Path) -> Path:
    path = base / ("x" * 80)
    path.mkdir()
    return path


def file(base: Path) -> Path:
    path = base / "file"
    path.touch()
    return path


def open_to_all(base: Path) -> Path:
    path = base / "open"
    path.mkdir()
    path.chmod(0o777)
    return path


def relative(base: Path) -> Path:
    return Path()


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "TMPDIR"])
@pytest.mark.parametrize("make", [missing, long, file, open_to_all, relative])
def test_a_place_that_does_not_serve_is_named_and_another_one_taken(
    base: Path,
    make: object,
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert callable(make)
    take(monkeypatch, base)
    place = make(base)
    monkeypatch.setenv(variable, str(place))
    directory = sockets.Directory()
    assert directory.path.parent == base
    directory.close()
    (said,) = caplog.messages
    assert said.startswith(f"{variable}={place} is not used for sockets: ")


def test_without_any_place_the_error_says_what_to_set(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take(monkeypatch, base / "missing")
    with pytest.raises(
        ConfigError, match=r"missing: No such file or directory.*let XDG_RUNTIME_DIR name another"
    ):
        sockets.Directory()
    directory = sockets.Directory(last=base)
    assert directory.path.parent == base
    directory.close()


def test_a_directory_that_was_removed_is_made_anew(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = base / "one", base / "two"
    first.mkdir()
    second.mkdir()
    take(monkeypatch, first, second)
    directory = sockets.Directory()
    old = directory.path
    shutil.rmtree(first)
    assert directory.path.parent == second
    assert f"{old} was removed while in use" in caplog.text
    # Whoever makes a directory by the old name has nothing of it.
    old.mkdir(parents=True)
    assert directory.path.parent == second
    directory.close()
    assert old.exists()
    assert list(second.iterdir()) == []


def test_only_what_nobody_holds_is_swept(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take(monkeypatch, base)
    script = (
        "import sys, pathlib; from mlnet.util import sockets;"
        f"sockets._default_places = lambda: (sockets.SocketPlace(pathlib.Path({str(base)!r})),);"
        "held = sockets.Directory(); print(held.path, flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    theirs = Path(other.stdout.readline().strip())
    stranger = base / "mlnet.12345"
    stranger.mkdir()
    sockets.Directory().close()
    assert theirs.is_dir()
    other.kill()
    other.communicate()
    sockets.Directory().close()
    assert not theirs.exists()
    assert stranger.is_dir()


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="a name is the only way here")
def test_a_way_outlives_the_name(base: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(str(base / "it"))
        listener.listen()
        way = sockets.Way(base / "it")
        shutil.rmtree(base)
        caller.connect(way.address)
        child = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        for one in (way, sockets.Way(Path(way.address))):
            subprocess.run([sys.executable, "-c", child, one.for_children], check=True)
        way.close()


def test_a_way_to_nothing_is_the_path(base: Path) -> None:
    way = sockets.Way(base / "nothing")
    assert way.address == str(base / "nothing")
    way.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the lock is Linux's")
def test_a_copied_data_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "one") as state:
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        runtime = state.runtime
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        with (
            pytest.raises(ConfigError, match=rf"process {os.getpid()} on this machine runs with the same"),
            opened(tmp_path / "two"),
        ):
            pass
        assert state.runtime == runtime
        assert runtime.is_dir()
    with opened(tmp_path / "two"):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="the lock is Linux's")
def test_another_user_who_takes_the_name_of_a_lock_keeps_nobody_from_running(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sockets, "_holder", lambda address: (77, os.geteuid() + 1))
    with sockets.alone("name", "/data"), sockets.alone("name", "/data"):
        assert caplog.messages == [f"process 77 of user {os.geteuid() + 1} holds the lock of /data"]

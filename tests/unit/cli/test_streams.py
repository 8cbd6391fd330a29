"""Commands whose standard streams are closed, full, or unable to show a letter; and what children inherit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlnet.driver.directories import default_data_dir
from mlnet.errors import ConfigError
from mlnet.util import subprocesses

PROGRAM = str(Path(sys.executable).with_name("mlnet-node"))
ENGLISH = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
LATIN = {"PYTHONIOENCODING": "latin-1"}
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


def shell(
    command: str, cwd: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a line in which ``mlnet-node`` is the program; its streams are what the line makes of them."""
    return subprocess.run(
        ["/bin/sh", "-c", command.replace("mlnet-node", f'"{PROGRAM}"')],
        cwd=cwd,
        env=os.environ | (environment or {}),
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("mlnet-node --version <&-", 0, ""),
        ("mlnet-node --version >&-", 0, ""),
        ("mkdir x; mlnet-node rewards --json --data-dir x 2>&- <&- >&-", 0, ""),
        pytest.param(
            "mlnet-node --version >/dev/full",
            1,
            "mlnet-node: standard output cannot be written: No space left on device\n",
            marks=FULL,
        ),
        pytest.param(
            "mkdir x; mlnet-node rewards --json --data-dir x >/dev/full",
            1,
            "mlnet-node: standard output cannot be written: No space left on device\n",
            marks=FULL,
        ),
        pytest.param("mlnet-node validate missing.yaml 2>/dev/full", 10, "", marks=FULL),
        ("mlnet-node validate missing.yaml 2>&-", 10, ""),
        ("mlnet-node validate missing.yaml 2>&- >&- <&-", 10, ""),
        (
            "mkdir gone; cd gone; rmdir ../gone; mlnet-node validate --no-data x.yaml",
            10,
            "mlnet-node: error: x.yaml cannot be read: No such file or directory (check the path)\n",
        ),
    ],
)
def test_a_stream_decides_nothing_but_its_own_loss(line: str, status: int, said: str, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert (done.returncode, done.stderr.decode()) == (status, said)


def test_what_is_meant_for_a_closed_stream_reaches_no_file(tmp_path: Path) -> None:
    """The first file that is opened would be standard error."""
    script = (
        "from mlnet.cli import streams; streams.prepare(); import sys\n"
        "with open('file', 'wb') as file:\n"
        "    print('output'); sys.stderr.write('remark'); sys.stdout.flush()\n"
    )
    (tmp_path / "script.py").write_text(script)
    done = shell(f'exec "{sys.executable}" script.py <&- >&- 2>&-', tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("environment", [ENGLISH, LATIN], ids=["english", "latin"])
@pytest.mark.parametrize("command", ["start --help", "submit --help", "validate größe….yaml"])
def test_any_encoding_will_do(command: str, environment: dict[str, str], tmp_path: Path) -> None:
    done = shell(f"mlnet-node {command}", tmp_path, environment)
    assert done.returncode in (0, 10)
    assert b"unexpected" not in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("optimize", ["", "2"])
def test_warnings_of_libraries_end_nothing(optimize: str, tmp_path: Path) -> None:
    done = shell(
        "mlnet-node validate --no-data", tmp_path, {"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": optimize}
    )
    assert done.returncode == 0, done.stderr


def test_children_inherit_nothing_that_is_meant_for_others() -> None:
    names = (
        "MASTER_ADDR MASTER_PORT RANK WORLD_SIZE LOCAL_RANK GROUP_RANK ROLE_RANK TORCHELASTIC_RUN_ID "
        "TORCH_LOGS TORCH_DISTRIBUTED_DEBUG PYTORCH_ALLOC_CONF OMP_PROC_BIND OMP_NUM_THREADS KMP_AFFINITY "
        "GOMP_CPU_AFFINITY MKL_NUM_THREADS PYTHONINSPECT PYTHONWARNINGS PYTHONOPTIMIZE GLOO_SOCKET_IFNAME"
    )
    foreign = dict.fromkeys(names.split(), "x")
    kept = {"PATH": "/bin", "HOME": "/h", "LD_LIBRARY_PATH": "/l", "USER": "u", "FRANK": "y", "MLNET_X": "z"}
    assert subprocesses.environment(foreign | kept) == kept
    assert subprocesses.environment({})["USER"] == str(os.getuid())


def test_a_path_of_modules_stays_without_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"PYTHONPATH": f":/one::two:{os.sep}three:"}
    assert subprocesses.environment(given)["PYTHONPATH"] == f"/one:{tmp_path / 'two'}:/three"


@pytest.mark.parametrize("base", ["", "relative/path"])
def test_a_data_directory_is_below_home(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", base)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_data_dir("node") == Path("/home/somebody/.local/share/mlnet/node")


def test_without_a_home_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 123_456_789)
    with pytest.raises(ConfigError, match="set HOME or XDG_DATA_HOME"):
        default_data_dir("node")

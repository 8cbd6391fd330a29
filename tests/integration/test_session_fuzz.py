"""The fuzz target of the native byte path builds, and finds nothing in a short run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the native byte path is Linux's"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]


def build(target: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    session = ROOT / "ext" / "session"
    sources = [path for path in session.glob("*.c") if path.name != "session.c"]
    sources.append(ROOT / "tests" / "fuzz" / "session.c")
    command = [
        "gcc",
        "-std=gnu11",
        "-O1",
        "-g",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wl,--wrap=clock_gettime",
        *flags,
    ]
    command += ["-I", str(session), *map(str, sources), "-pthread", "-o", str(target)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("fuzz") / "session"
    if build(target, *SANITIZERS).returncode:
        plain = build(target)
        assert not plain.returncode, plain.stderr
    return target


@pytest.mark.parametrize("seed", [1, 2])
def test_a_short_run_finds_nothing(target: Path, seed: int) -> None:
    done = subprocess.run(
        [str(target), "60000", str(seed)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.partition(" frames")[0].rpartition(" ")[2]) >= 60000

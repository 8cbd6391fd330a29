from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = "from mlnet.kernels import IMPLEMENTATION, borda; print(IMPLEMENTATION, borda._impl.__name__)"


def run(mode: str, program: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MLNET_EXTENSIONS": mode},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_skip_takes_the_pure_twin() -> None:
    assert run("skip").stdout.split() == ["pure", "mlnet.kernels.reference"]


def test_require_takes_the_compiled_kernels() -> None:
    pytest.importorskip(
        "mlnet.kernels._borda", reason="the kernels are not compiled here", exc_type=ImportError
    )
    assert run("require").stdout.split() == ["compiled", "mlnet.kernels._borda"]


@pytest.mark.parametrize(
    ("mode", "stdout", "error"), [("auto", "pure", ""), ("require", "", "mlnet.kernels._borda")]
)
def test_what_happens_without_compiled_kernels(mode: str, stdout: str, error: str) -> None:
    result = run(mode, f"import sys; sys.modules['mlnet.kernels._borda'] = None; {PROGRAM}")
    assert result.stdout.split()[:1] == stdout.split()
    assert error in result.stderr


def test_another_mode_is_refused() -> None:
    assert "MLNET_EXTENSIONS='fast': write auto, require or skip" in run("fast").stderr

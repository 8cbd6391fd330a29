"""The commands: their arguments, exit codes, and what they print where."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

import mlnet
from mlnet.cli import app, validate
from mlnet.cli.arguments import definition_file, parse_amount, parse_peer_id, parse_ports, parse_size
from mlnet.cli.commands import NAMES
from mlnet.cli.start import reached, welcome
from mlnet.errors import DataError, MlnetError, TaskError
from mlnet.identity.keys import Identity
from mlnet.net.transport.reach import REACHED, SEEN, UNKNOWN
from mlnet.node.ledger import Ledger, Receipt
from mlnet.protocol.wire.messages import Signed

EXAMPLE = Path(mlnet.__file__).with_name("examples") / "client-task-definition.yaml"
PEER = "12D3KooWPRvhsWVsLj8XPC4wndRzoGeqAMbBRSNUfYdAtvJD9wro"
ADDRESS = f"/ip4/10.0.0.5/tcp/4001/p2p/{PEER}"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process: exit code, standard output, standard error."""

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mlnet-node", *arguments])
        with pytest.raises(SystemExit) as end:
            app.main()
        code = end.value.code
        assert isinstance(code, int)
        return code, *capfd.readouterr()

    return command


def broken(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Have `validate` end in an error."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(validate, "validate", fail)


def test_help_names_every_command(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    listed = out.partition("Commands:")[2].partition("Exit codes:")[0].strip()
    assert [line.split()[0] for line in listed.splitlines()] == list(NAMES)


def test_version(run: Run) -> None:
    from mlnet import __version__

    assert run("--version") == (0, f"mlnet {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["nosuch"], "nosuch"),
        (["submit"], "--peer"),
        (["demo", "--nodes", "0"], "--nodes"),
        (["start", "--memory", "4 apples"], "4GiB"),
        (["start", "--memory", "4KiB"], "at least 1MiB"),
        (["start", "--least-payment", "1.0000001"], "six decimals"),
        (["start", "--least-payment", "-1"], "-1"),
        (["start", "--allow-client", "me"], "peer id"),
        (["start", "--redis-ports", "7000"], "7000-7099"),
        (["start", "--redis-ports", "7099-7000"], "7000-7099"),
        (["start", "--port", "70000"], "--port"),
        (["start", "--patience", "0"], "--patience"),
        (["start", "--tasks", "0"], "--tasks"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_ends_with_2_and_a_hint(run: Run, arguments: list[str], hint: str) -> None:
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert hint in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "error", [TaskError("ml.tau", "does not exist yet", "leave it out"), DataError("gone")]
)
def test_an_error_is_one_line_and_its_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: MlnetError
) -> None:
    broken(monkeypatch, error)
    assert run("validate") == (error.exit_code, "", f"mlnet-node: error: {error}\n")


def test_an_error_of_several_lines_is_one_line_without_controls(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, DataError("one\ntwo \x1b[2J"))
    assert run("validate") == (11, "", "mlnet-node: error: one two ?[2J\n")


def test_an_unexpected_error_is_one_line_with_a_hint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLNET_DEBUG", raising=False)
    broken(monkeypatch, ZeroDivisionError("oops"))
    code, out, err = run("validate")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "mlnet-node: error: unexpected ZeroDivisionError: oops (set MLNET_DEBUG=1 for the traceback)"
    ]


def test_an_unexpected_error_is_raised_for_whoever_debugs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLNET_DEBUG", "1")
    monkeypatch.setattr("sys.argv", ["mlnet-node", "validate"])
    broken(monkeypatch, ZeroDivisionError("oops"))
    with pytest.raises(ZeroDivisionError, match="oops"):
        app.main()


def test_an_interrupt_ends_with_130_and_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, KeyboardInterrupt())
    code, _, err = run("validate")
    assert code == 128 + signal.SIGINT
    assert "Traceback" not in err


def test_a_reader_that_went_away_is_no_error_message(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, BrokenPipeError(32, "Broken pipe"))
    saved = os.dup(1)
    try:
        code, _, err = run("validate")
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert (code, err) == (1, "")


def test_validate_says_what_the_example_amounts_to(run: Run) -> None:
    code, out, err = run("validate", str(EXAMPLE))
    assert (code, err) == (0, "")
    facts = dict(line.split("  ", 1) for line in out.splitlines() if "  " in line)
    assert facts["parameters"].strip() == "17,226"
    assert "1,797 rows" in facts["dataset"]
    assert facts["inputs"].strip() == "64 of the model: 64 numbers"
    assert "8 train" in facts["segments"]
    assert "2 to 64 nodes" in facts["cluster"]
    assert out.splitlines()[-1] == "valid"


def test_validate_leaves_the_dataset_alone_when_told_so(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(EXAMPLE.read_text().replace("digits.npz", "missing.npz"))
    assert run("validate", str(file))[0] == DataError.exit_code
    code, out, _ = run("validate", str(file), "--no-data")
    assert code == 0
    assert "dataset was not read" in out


def test_validate_warns(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(EXAMPLE.read_text().replace("max-committee-size: 5", "max-committee-size: 2"))
    code, out, _ = run("validate", str(file), "--no-data")
    assert code == 0
    assert "warning: cluster.max-committee-size: " in out


def test_validate_of_a_missing_file(run: Run, tmp_path: Path) -> None:
    code, _, err = run("validate", str(tmp_path / "none.yaml"))
    assert code == TaskError.exit_code
    assert err.startswith("mlnet-node: error: ")
    assert "none.yaml" in err
    assert len(err.splitlines()) == 1


def test_the_definition_is_the_one_named_else_the_one_here_else_the_packaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert definition_file(None) == EXAMPLE
    (tmp_path / EXAMPLE.name).touch()
    assert definition_file(None) == Path(EXAMPLE.name)
    assert definition_file(Path("other.yaml")) == Path("other.yaml")


def receipt(task: str, state: str, amount: int, recorded: int) -> Receipt:
    assert state in ("settled", "claimed")
    split = {PEER: amount, "12D3KooWother": 100_000_000 - amount}
    settled = "settled" if state == "settled" else "claimed"
    return Receipt(task * 32, PEER, settled, amount, 100_000_000, split, recorded, (Signed("{}", "ab" * 64),))  # type: ignore[arg-type]


def test_rewards_are_a_table_with_sums(run: Run, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.record(receipt("aa", "settled", 12_500_000, 1_700_000_000_000))
    ledger.record(receipt("bb", "claimed", 1, 1_700_000_100_000))
    ledger.record(receipt("cc", "settled", 20_000_000, 1_700_000_200_000))
    code, out, err = run("rewards", "--data-dir", str(tmp_path))
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert [line[2:] for line in lines[1:4]] == [
        ["aaaaaaaaaaaa", "JD9wro", "settled", "12.5", "100"],
        ["bbbbbbbbbbbb", "JD9wro", "claimed", "0.000001", "100"],
        ["cccccccccccc", "JD9wro", "settled", "20", "100"],
    ]
    assert out.splitlines()[4:] == ["settled: 32.5 in 2 tasks", "claimed: 0.000001 in 1 task"]


def test_rewards_as_json_are_the_receipts(run: Run, tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger").record(receipt("aa", "settled", 5, 7))
    code, out, _ = run("rewards", "--json", "--data-dir", str(tmp_path))
    assert code == 0
    (found,) = json.loads(out)
    assert found["task"] == "aa" * 32
    assert found["amount"] == 5
    assert found["evidence"] == [{"yaml": "{}", "signature": "ab" * 64}]


def test_an_empty_ledger_says_so(run: Run, tmp_path: Path) -> None:
    assert run("rewards", "--data-dir", str(tmp_path)) == (0, f"no rewards yet in {tmp_path}\n", "")
    assert run("rewards", "--json", "--data-dir", str(tmp_path)) == (0, "[]\n", "")


def test_a_damaged_ledger_is_an_error_with_the_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "x.json").write_text("{")
    code, _, err = run("rewards", "--data-dir", str(tmp_path))
    assert code == 3
    assert "x.json" in err


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 << 30), ("512MiB", 512 << 20), ("2 GB", 2 * 10**9), ("1MiB", 1 << 20)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4", "GiB", "-1GiB", "1.5GiB", "0GiB", "1023KiB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "micro"), [("0", 0), ("12.5", 12_500_000), ("0.000001", 1), ("100", 100_000_000)]
)
def test_amounts(text: str, micro: int) -> None:
    assert parse_amount(text) == micro


@pytest.mark.parametrize("text", ["", "-1", "1e3", ".5", "1.", "1.0000001", "nan", "1\n"])
def test_no_amounts(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_amount(text)


def test_ports() -> None:
    assert parse_ports("7000-7099") == (7000, 7099)
    assert parse_ports("1-65535") == (1, 65535)
    for text in ("0-10", "1-65536", "10-9", "-", "7000", "7000-", "7000-7099\n"):
        with pytest.raises(typer.BadParameter):
            parse_ports(text)


def test_peer_ids() -> None:
    peer = Identity.from_seed(bytes(32)).peer_id
    assert parse_peer_id(peer) == peer
    for text in ("", peer[:-1], peer + "x", "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"):
        with pytest.raises(typer.BadParameter):
            parse_peer_id(text)


def test_a_node_says_how_others_join_by_its_best_address() -> None:
    text = welcome(PEER, (ADDRESS, f"/ip4/127.0.0.1/tcp/4001/p2p/{PEER}"), REACHED)
    assert f"  mlnet-node start --peer {ADDRESS}\n" in text
    assert f"  mlnet-node submit --peer {ADDRESS}\n" in text
    assert "also listens at /ip4/127.0.0.1/tcp/4001\n" in text
    assert "from this machine only" not in text
    assert "guess" not in text


def test_a_node_says_that_an_address_which_nobody_has_reached_is_a_guess() -> None:
    assert "the address is a guess" in welcome(PEER, (ADDRESS,), UNKNOWN)
    assert "peers see this node at that address" in welcome(PEER, (ADDRESS,), SEEN)
    assert reached(ADDRESS, REACHED) == (
        f"a peer has reached this node; another machine joins with mlnet-node start --peer {ADDRESS}"
    )


def test_a_node_that_only_this_machine_reaches_says_so() -> None:
    assert "from this machine only" in welcome(PEER, (f"/ip4/127.0.0.1/tcp/4001/p2p/{PEER}",), UNKNOWN)

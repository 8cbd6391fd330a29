"""Journal, ledger and directory of a party: what survives which end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlnet.driver.data_dir import opened
from mlnet.driver.journal import Journal, replay
from mlnet.errors import ConfigError
from mlnet.identity.keys import Identity
from mlnet.node.ledger import Ledger, Receipt
from mlnet.protocol.events import Event, PingsMeasured, Received, Restarted, TimerFired
from mlnet.protocol.signer import IdentitySigner
from mlnet.protocol.wire.messages import CancelTask

TASK = "ab" * 32


@pytest.fixture
def signer() -> IdentitySigner:
    return IdentitySigner(Identity.from_seed(b"s" * 32))


def events(signer: IdentitySigner) -> list[tuple[int, Event]]:
    message = signer.sign(CancelTask("enough"), task=TASK, attempt=1, sent=5)
    return [(5, Received(message)), (7, PingsMeasured(1, {"p" * 44: (1, 2)})), (9, TimerFired("deadline"))]


def written(path: Path, signer: IdentitySigner) -> Path:
    journal = Journal(path)
    for now, event in events(signer):
        journal.append(now, event, durable=True)
    journal.close()
    return path


def test_what_was_written_is_read_again(tmp_path: Path, signer: IdentitySigner) -> None:
    path = written(tmp_path / "journal", signer)
    assert list(replay(path, signer.verify)) == events(signer)


def test_a_journal_goes_on_where_it_was(tmp_path: Path, signer: IdentitySigner) -> None:
    path = written(tmp_path / "journal", signer)
    journal = Journal(path)
    journal.append(11, Restarted(), durable=False)
    journal.close()
    assert list(replay(path, signer.verify)) == [*events(signer), (11, Restarted())]


def test_every_cut_leaves_the_whole_records_before_it(tmp_path: Path, signer: IdentitySigner) -> None:
    path = written(tmp_path / "journal", signer)
    whole = path.read_bytes()
    ends = [0] + [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        complete = sum(end <= length for end in ends[1:])
        assert list(replay(path, signer.verify)) == events(signer)[:complete]


def test_a_record_after_a_torn_one_is_whole(tmp_path: Path, signer: IdentitySigner) -> None:
    path = written(tmp_path / "journal", signer)
    path.write_bytes(path.read_bytes()[:-5])
    journal = Journal(path)
    journal.append(11, Restarted(), durable=True)
    journal.close()
    assert list(replay(path, signer.verify)) == [*events(signer)[:2], (11, Restarted())]


def test_damage_in_the_middle_is_named(tmp_path: Path, signer: IdentitySigner) -> None:
    path = written(tmp_path / "journal", signer)
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="line 1: the journal is damaged"):
        list(replay(path, signer.verify))


def receipt(state: str, amount: int) -> Receipt:
    return Receipt(TASK, "c" * 44, state, amount, 10, {"p": amount}, 1, ())  # type: ignore[arg-type]


def test_a_receipt_is_counted_once_and_a_settled_one_stays(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.receipts() == []
    ledger.record(receipt("claimed", 3))
    ledger.record(receipt("settled", 4))
    ledger.record(receipt("claimed", 5))
    assert ledger.receipts() == [receipt("settled", 4)]


def test_a_directory_has_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    script = (
        "import pathlib, sys\n"
        "from mlnet.driver.data_dir import opened\n"
        "with opened(pathlib.Path(sys.argv[1])): pass\n"
    )
    with opened(tmp_path / "data") as state:
        runtime = state.runtime
        assert runtime.stat().st_mode & 0o777 == 0o700
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "data")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "another mlnet process uses" in done.stderr
    assert not runtime.exists()
    with opened(tmp_path / "data") as again:
        assert again.identity.peer_id == state.identity.peer_id


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with opened(tmp_path / "data") as state:
        runtime = state.runtime
        (state.prepared("begun") / "journal").touch()
        (state.prepared("unbegun") / "0.safetensors").touch()
    (runtime / "old").mkdir(parents=True)
    with opened(tmp_path / "data") as state:
        assert state.unfinished() == ["begun"]
        assert not (state.tasks / "unbegun").exists()
        assert not runtime.exists()

"""The numbered events of a task on a disk that a crash may cut short at any byte."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnet.service.tasks.history import MAX_EVENT_BYTES, Entry, History

payloads = st.binary(max_size=40)
entries = st.lists(st.builds(Entry, payloads, st.integers(0, 7), st.integers(0, 1 << 20)), max_size=12)


def write(path: Path, events: list[Entry]) -> History:
    history = History(path)
    for event in events:
        history.append(event, durable=False)
    return history


def content(history: History) -> dict[int, Entry]:
    return {number: history.at(number) for number in range(history.first, history.last + 1)}


@given(entries, st.data())
def test_a_crash_at_any_byte_loses_no_whole_event_and_repeats_no_number(
    events: list[Entry], data: st.DataObject
) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "events"
        sizes = [0]
        history = History(path)
        for event in events:
            history.append(event, durable=False)
            sizes.append(history.size)
        history.close()
        cut = data.draw(st.integers(0, sizes[-1]))
        path.write_bytes(path.read_bytes()[:cut])
        whole = sum(size <= cut for size in sizes[1:])

        again = History(path)
        assert content(again) == dict(enumerate(events[:whole], start=1))
        assert again.append(Entry(b"next", 3, 9), durable=False) == whole + 1
        again.close()

        last = History(path)
        assert content(last) == dict(enumerate([*events[:whole], Entry(b"next", 3, 9)], start=1))
        assert (last.state, last.reports) == (3, 9)
        last.close()


@given(entries, st.data())
def test_what_follows_a_damaged_byte_is_dropped(events: list[Entry], data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "events"
        write(path, events).close()
        raw = bytearray(path.read_bytes())
        if not raw:
            return
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(raw)
        history = History(path)
        found = content(history)
        assert found == dict(list(enumerate(events, start=1))[: len(found)])
        assert len(found) < len(events)
        history.close()


def test_only_the_latest_events_are_kept_and_their_numbers_stay(tmp_path: Path) -> None:
    history = History(tmp_path / "events", most_events=100)
    for number in range(1, 2001):
        history.append(Entry(b"%d" % number, 1, number), durable=False)
    assert (history.first, history.last) == (1901, 2000)
    assert history.at(1950).payload == b"1950"
    # The file does not grow without a bound either.
    assert history.size < 100 * 40 + 3 * 4096
    history.close()
    again = History(tmp_path / "events", most_events=100)
    assert (again.first, again.last, again.reports) == (1901, 2000, 2000)
    assert again.append(Entry(b"", 1, 0), durable=True) == 2001
    again.close()


def test_the_bytes_of_the_events_are_bounded_too(tmp_path: Path) -> None:
    history = History(tmp_path / "events", most_bytes=1000)
    for _ in range(50):
        history.append(Entry(bytes(100), 1, 0), durable=False)
    assert (history.first, history.last) == (41, 50)
    history.close()


def test_a_disk_that_is_full_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = write(tmp_path / "events", [Entry(b"one", 1, 1)])

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        with pytest.raises(OSError, match="No space"):
            history.append(Entry(b"two", 1, 2), durable=False)
    assert history.last == 1
    assert history.append(Entry(b"other", 2, 2), durable=False) == 2
    history.close()
    again = History(tmp_path / "events")
    assert content(again) == {1: Entry(b"one", 1, 1), 2: Entry(b"other", 2, 2)}
    again.close()


def test_a_length_that_no_event_has_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes((MAX_EVENT_BYTES + 1).to_bytes(4, "little") + bytes(100))
    history = History(path)
    assert (history.first, history.last) == (1, 0)
    history.close()

"""The bounds of files that callers hand in, and what is dropped when."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from mlnet.errors import ConfigError, HashMismatch, ServiceError, StorageError
from mlnet.service import blob_store
from mlnet.service.blob_store import PART_SECONDS, BlobStore

NOW = 1_800_000_000.0


def store(directory: Path, most: int = 1000) -> BlobStore:
    return BlobStore(directory / "blobs", most, lambda: NOW)


def put(into: BlobStore, content: bytes, age: float = 0.0, *, part: int | None = None) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    writing = into.begin(sha256, len(content), 0)
    writing.write(content[:part])
    if part is None:
        writing.finish()
    writing.close()
    path = into._whole(sha256) if part is None else into._part(sha256)
    os.utime(path, (NOW - age, NOW - age))
    return sha256


def test_a_whole_file_is_found_and_a_part_is_not(tmp_path: Path) -> None:
    blobs = store(tmp_path)
    whole, part = put(blobs, b"whole"), put(blobs, b"part of it", part=4)
    found = blobs.find(whole)
    assert found is not None
    assert found.read_bytes() == b"whole"
    assert found.stat().st_mode & 0o777 == 0o600
    assert blobs.find(part) is None
    assert blobs.find(whole.upper()) == found
    assert blobs.used == 9


@pytest.mark.parametrize("name", ["", "..", "ab" * 31 + "g" * 2, "/etc/passwd", "ab" * 33])
def test_only_a_hash_is_looked_up(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is no SHA-256; it has 64 hexadecimal digits"):
        store(tmp_path).find(name)


def test_parts_are_dropped_after_a_day_and_whole_files_are_not(tmp_path: Path) -> None:
    blobs = store(tmp_path)
    whole = put(blobs, b"whole", PART_SECONDS + 1)
    old, young = put(blobs, b"old", PART_SECONDS + 1, part=1), put(blobs, b"young", part=1)
    blobs.sweep()
    assert blobs.find(whole)
    assert blobs.stored(old) == (0, False)
    assert blobs.stored(young) == (1, False)
    store(tmp_path / "missing").sweep()


def test_room_is_made_by_what_nobody_has_used_for_a_day(tmp_path: Path) -> None:
    blobs = store(tmp_path, 100)
    oldest, old = put(blobs, b"a" * 40, 3 * PART_SECONDS), put(blobs, b"b" * 40, 2 * PART_SECONDS)
    put(blobs, b"c" * 60)
    assert (blobs.stored(oldest), blobs.stored(old)) == ((0, False), (40, True))
    put(blobs, b"d" * 40)
    with pytest.raises(
        StorageError, match=r"the file takes 0\.0 MiB, but of .* are taken; start the node with"
    ):
        put(blobs, b"e" * 40)
    with pytest.raises(StorageError, match="start the node with a larger --disk"):
        put(store(tmp_path / "other", 100), b"f" * 101)


def test_what_is_being_written_counts_in_full(tmp_path: Path) -> None:
    blobs = store(tmp_path, 100)
    writing = blobs.begin("ab" * 32, 90, 0)
    assert blobs.used == 90
    with pytest.raises(StorageError):
        put(blobs, b"x" * 20)
    writing.close()
    put(blobs, b"x" * 20)


def test_the_number_of_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_store, "MAX_BLOBS", 2)
    blobs = store(tmp_path)
    put(blobs, b"a", part=0)
    put(blobs, b"b")
    with pytest.raises(StorageError, match="2 files are stored already; the oldest is dropped within a day"):
        put(blobs, b"c")


def test_a_part_that_was_damaged_does_not_become_whole(tmp_path: Path) -> None:
    blobs = store(tmp_path)
    content = b"0123456789"
    sha256 = put(blobs, content, part=5)
    blobs._part(sha256).write_bytes(b"xxxxx")
    writing = blobs.begin(sha256, 10, 5)
    writing.write(content[5:])
    with pytest.raises(HashMismatch, match="send it again, or name its own hash"):
        writing.finish()
    writing.close()
    assert blobs.stored(sha256) == (0, False)
    assert put(blobs, content) == sha256


def test_a_write_that_comes_after_the_end_is_no_error(tmp_path: Path) -> None:
    """The thread of a call that was cancelled may come late."""
    writing = store(tmp_path).begin("ab" * 32, 10, 0)
    writing.close()
    writing.write(b"late")
    assert writing.done == 0


def test_an_end_that_comes_after_the_end_leaves_the_file_to_its_next_writer(tmp_path: Path) -> None:
    """The thread of a call that was cancelled may be late, while another call begins anew."""
    blobs = store(tmp_path)
    content = b"0123456789"
    sha256 = hashlib.sha256(content).hexdigest()
    late = blobs.begin(sha256, 10, 0)
    late.write(content)
    late.close()
    again = blobs.begin(sha256, 10, 0)
    late.finish()
    assert blobs.stored(sha256) == (0, False)
    again.write(content)
    again.finish()
    again.close()
    assert blobs.stored(sha256) == (10, True)


def test_a_piece_behind_the_end_of_its_file_costs_nothing_that_is_there(tmp_path: Path) -> None:
    blobs = store(tmp_path)
    sha256 = put(blobs, b"0123456789", part=8)
    with pytest.raises(ServiceError, match="a file of 5 bytes has no piece at 8"):
        blobs.begin(sha256, 5, 8)
    assert blobs.stored(sha256) == (8, False)

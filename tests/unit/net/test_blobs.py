"""Files that are read as blobs."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from mlnet.net import blobs


async def test_a_file_that_is_opened_for_nobody_any_more_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"some")
    began, go_on, opened = threading.Event(), threading.Event(), list[BinaryIO]()
    original = blobs._open

    def slowly(path: Path, offset: int) -> tuple[BinaryIO, int]:
        began.set()
        assert go_on.wait(20)
        file, size = original(path, offset)
        opened.append(file)
        return file, size

    monkeypatch.setattr(blobs, "_open", slowly)
    reading = asyncio.ensure_future(anext(blobs.read(path, 0)))
    assert await asyncio.to_thread(began.wait, 20)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    go_on.set()
    async with asyncio.timeout(20):
        while not (opened and opened[0].closed):
            await asyncio.sleep(0)

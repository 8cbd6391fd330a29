"""Files that are read as blobs."""

from __future__ import annotations

import asyncio
import io
import threading
from pathlib import Path

import pytest

from mlnet.net import blobs


async def test_a_file_that_is_opened_for_nobody_any_more_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on, closed = threading.Event(), threading.Event(), asyncio.Event()

    class File(io.BytesIO):
        def close(self) -> None:
            closed.set()
            super().close()

    file = File(b"some")

    def slowly(_: Path, __: int) -> tuple[File, int]:
        began.set()
        assert go_on.wait(20)
        return file, 4

    monkeypatch.setattr(blobs, "_open", slowly)
    reading = asyncio.ensure_future(anext(blobs.read(tmp_path, 0)))
    assert await asyncio.to_thread(began.wait, 20)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not closed.is_set()
    go_on.set()
    async with asyncio.timeout(20):
        await closed.wait()

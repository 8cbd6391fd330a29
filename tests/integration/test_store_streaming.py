"""Replication counts as up only when what the master writes next arrives too."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path

import pytest
from support.redis import role, running

from mlnet.errors import StoreError
from mlnet.store import resp


@pytest.mark.parametrize("streams", [True, False])
async def test_a_first_copy_alone_is_not_replication(streams: bool) -> None:
    served: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = resp.Decoder(reader)
        while (words := await decoder.read()) and isinstance(words, list) and words[0] != b"PSYNC":
            writer.write(b"+OK\r\n")
        # An empty database in the format of version 9, without checksum.
        rdb = b"REDIS0009\xff" + bytes(8)
        writer.write(b"+FULLRESYNC %s 0\r\n$%d\r\n" % (b"a" * 40, len(rdb)) + rdb)
        while await decoder.read():
            if streams:
                writer.write(resp.command("PING"))

    async def master(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except StoreError:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.create_task(master(reader, writer)))

    async with running() as slave:
        with tempfile.TemporaryDirectory() as short:
            listener = await asyncio.start_unix_server(accept, Path(short) / "m.sock")
            if streams:
                await slave.replicate_from(Path(short) / "m.sock", timeout=10)
                assert await role(slave) == "slave"
            else:
                with pytest.raises(StoreError, match=r"not replicated after 3 s: the state is 'connected'"):
                    await slave.replicate_from(Path(short) / "m.sock", timeout=3)
                assert await role(slave) == "master"
            listener.close()
    async with asyncio.timeout(10):
        await asyncio.gather(*served)

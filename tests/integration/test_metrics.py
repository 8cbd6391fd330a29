"""What a node counts while peers and strangers come and go, and how an operator gets at it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from support.network import SECONDS, accepted, join, nodes

from mlnet.net.types import Limits


async def test_what_happens_on_the_network_is_counted() -> None:
    limits = Limits(handshake_seconds=60.0)
    async with nodes(2, limits) as (a, b):
        await join(a, b)
        assert await accepted(b.network.send(b.envelope("hello"), a.id, timeout=SECONDS))
        assert not await accepted(b.network.send(b.envelope("garbage"), a.id, timeout=SECONDS))
        for _ in range(5):
            assert await accepted(b.network.send(b.envelope("again"), a.id, timeout=SECONDS))
        port = int(a.address.split("/")[4])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        writer.write(b"GET / HTTP/1.1\r\n\r\n" + bytes(200))
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
        found = await a.network.metrics()
        assert found.value("mlnet_peers", "connected") == 1
        inbound, outbound = (found.value("mlnet_connections", side) for side in ("inbound", "outbound"))
        assert (inbound, outbound) == (0, 1)
        assert found.value("mlnet_envelopes_received_total") >= 2
        assert found.value("mlnet_envelopes_refused_total") == 1
        assert found.value("mlnet_envelopes_repeated_total") == 4
        assert found.value("mlnet_transport_bytes_total", "in") > 0
        assert found.value("mlnet_streams") > 0
        assert found.value("mlnet_inbound_streams", "rpc") == 1
        await b.network.stop()
        await a.until_alone()
        ended = await a.network.metrics()
        assert ended.value("mlnet_connections", "outbound") == 0
        assert ended.value("mlnet_connections_ended_total", "gone") == 1
        assert ended.value("mlnet_handshakes_failed_total", "garbage") == 1


async def test_start_serves_metrics(tmp_path: Path) -> None:
    listen = ["--listen", "/ip4/127.0.0.1/tcp/0", "--metrics", "127.0.0.1:0"]
    command = [sys.executable, "-m", "mlnet", "start", "--data-dir", str(tmp_path), *listen]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            first = (await process.stdout.readline()).decode()
            assert first.startswith("metrics at http://127.0.0.1:")
            assert (await process.stdout.readline()).startswith(b"node ")
            text = await asyncio.to_thread(fetched, first.split()[-1])
            families = {family.name: family for family in text_string_to_metric_families(text)}
            assert families["mlnet_peers"].samples
            assert families["process_open_fds"].samples[0].value > 0
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        return str(answer.read().decode())

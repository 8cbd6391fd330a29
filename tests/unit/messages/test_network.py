"""What the network's own parts say: of names, sockets, the native thread and this node's own address."""

from __future__ import annotations

import builtins
import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace as Has
from typing import Any, cast

import dns.asyncresolver
import dns.exception
import dns.resolver
import pytest
import trio
from support.message_cases import Case, check

from mlnet.net.muxer import aead, select
from mlnet.net.transport import host_dialer, inbound_streams, resolving, unix_tunnel

PATCHES = pytest.MonkeyPatch
PEER = "12D3KooWPRvhsWVsLj8XPC4wndRzoGeqAMbBRSNUfYdAtvJD9wro"


def muxing(mode: str, *, built: bool) -> Case:
    def case(_: Path) -> object:
        with PATCHES.context() as patch:
            patch.setenv("MLNET_EXTENSIONS", mode)
            patch.setattr(aead, "NAME", "LIBRARY")
            if mode == "auto" and built:
                patch.setattr(select, "implementation", lambda: "native")
            if not built:
                patch.setattr(builtins, "__import__", without("native", builtins.__import__))
            return select.describe()

    return case


def test_network(tmp_path: Path) -> None:
    def looked_up(error: type[Exception]) -> Case:
        async def resolve(*_: object, **__: object) -> object:
            raise error

        def case(_: Path) -> object:
            with PATCHES.context() as patch:
                patch.setattr(dns.asyncresolver, "resolve", resolve)
                try:
                    return trio.run(resolving.resolve, "/dnsaddr/example.org", PEER, 9.0)
                except resolving.Unresolved as unresolved:
                    return unresolved

        return case

    def itself(_: Path) -> object:
        own = Has(_swarm=object(), _is_own=lambda address: True)
        return trio.run(host_dialer.HostDialer._open, cast(Any, own), PEER, "/ip4/127.0.0.1/tcp/4001")

    def deaf(directory: Path) -> object:
        """The gRPC server's socket is gone when a peer calls."""
        lines: list[str] = []
        ours = Has(
            _rpc_way=Has(address=str(directory / "gone")),
            _rpc_socket=directory / "gone",
            _stopping=False,
            _runtime=Has(caller=lambda: "c-0"),
            _sources={},
        )
        stream = Has(muxed_conn=Has(remote_ip="192.0.2.7"))
        with PATCHES.context() as patch:
            patch.setattr(
                inbound_streams, "logger", Has(error=lambda words, *parts: lines.append(words % parts))
            )
            with pytest.raises(OSError, match=r".*"):
                trio.run(_served, ours, stream)
        return lines[0]

    def runtime(make: Callable[[Path], Path]) -> Case:
        return lambda directory: unix_tunnel.RuntimeDir(make(directory)).prepare()

    def below_a_file(directory: Path) -> Path:
        (directory / "file").touch()
        return directory / "file" / "run"

    def public(directory: Path) -> Path:
        (directory / "run").mkdir(mode=0o755)
        return directory / "run"

    check(
        "network",
        {
            "a name that the DNS does not know": looked_up(dns.resolver.NXDOMAIN),
            "no DNS server": looked_up(dns.exception.Timeout),
            "its own address": itself,
            "a node whose socket is gone": deaf,
            "a runtime directory below a file": runtime(below_a_file),
            "a runtime directory that others may enter": runtime(public),
            "the native thread": muxing("auto", built=True),
            "no native thread is wanted": muxing("skip", built=True),
            "no native thread was built": muxing("auto", built=False),
        },
        tmp_path,
    )


async def _served(ours: Any, stream: Any) -> None:
    await inbound_streams.Inbound._serve_rpc(ours, PEER, stream)


def without(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """An import that does not find what is named."""

    def imported(module: str, names: Any = None, local: Any = None, wanted: Any = (), level: int = 0) -> Any:
        if name in (wanted or ()):
            raise ImportError(errno.ENOENT, name)
        return real(module, names, local, wanted, level)

    return imported

"""Which addresses a link may lead to."""

from __future__ import annotations

import pytest

from mlnet.data.http import Interrupter, download, is_public
from mlnet.errors import DataError


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.0.9",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2002:a00:1::",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
    ],
)
def test_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://example.org/x", "not an http"),
        ("http:///x", "not an http"),
        ("http://user:secret@example.org/", "user name"),
        ("http://example.org/a b", "control character"),
        ("http://example.org/\r\nHost: x", "control character"),
        ("http://127.0.0.1:1/x", "not a public address"),
        ("http://[::1]:1/x", "not a public address"),
        ("http://2130706433/x", "not a public address"),
        ("http://0x7f.1/x", "not a public address"),
        ("http://localhost:1/x", "not a public address"),
        ("http://example.org:99999/", "cannot be fetched"),
    ],
)
def test_refused_before_a_connection(url: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        download(
            url,
            lambda chunk: None,
            max_bytes=10,
            seconds=5,
            allow_private=False,
            interrupter=Interrupter(),
        )

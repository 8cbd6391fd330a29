"""What an address answered, in words."""

from __future__ import annotations

import errno
import socket

import pytest
from libp2p.network.exceptions import SwarmException
from libp2p.protocol_muxer.exceptions import MultiselectError
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey

from mlnet.net.transport import refusals


def caused(*causes: BaseException) -> BaseException:
    """An error as libp2p wraps it."""
    outer: BaseException = SwarmException("fail to open connection to peer")
    first = outer
    for cause in causes:
        outer.__cause__ = cause
        outer = cause
    return first


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ECONNREFUSED, "Connection refused"), "refused"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "no route"),
        (OSError(errno.ECONNRESET, "reset"), "not an mlnet node"),
        (OSError(errno.ENOBUFS, "No buffer space"), "buffer space"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "no such name"),
        (
            PeerIDMismatchesPubkey("x remote_peer_id_from_pubkey=12D3KooWabc"),
            "another identity answers there",
        ),
        (MultiselectError("a line without its end"), "no handshake"),
        (MultiselectError("the stream ended"), "hung up"),
        (ValueError("odd"), "odd"),
    ],
)
def test_the_cause_is_named_however_deep_it_lies(error: BaseException, words: str) -> None:
    group = OSError("all attempts to connect failed")
    group.__cause__ = ExceptionGroup("all", [error]) if isinstance(error, Exception) else error
    assert words in refusals.why(caused(error))
    assert words in refusals.why(caused(group))

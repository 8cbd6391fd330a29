"""Why a dial failed, in words for the operator who gave the address.

libp2p wraps the cause several times, and its own text names its classes; the errno of the cause says more.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator

from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey

_WORDS = {
    errno.ECONNREFUSED: "refused; nothing listens there",
    errno.EHOSTUNREACH: "no route to that host",
    errno.ENETUNREACH: "no route to that network",
    errno.ETIMEDOUT: "no answer; a firewall, or no such machine",
    errno.ECONNRESET: "it hung up; what listens there is not an mlnet node, or shuts this one out",
    errno.EADDRNOTAVAIL: "this machine has no address of that family",
    errno.EACCES: "this machine does not allow it (firewall)",
    errno.EPERM: "this machine does not allow it (firewall)",
    errno.EMFILE: "this process has too many open files (ulimit -n)",
}
_HUNG_UP = _WORDS[errno.ECONNRESET]
# libp2p puts the peer id that answered into the text of its exception only.
_IDENTITY = re.compile(r"remote_peer_id_from_pubkey=([1-9A-HJ-NP-Za-km-z]{1,64})")


def why(error: BaseException) -> str:
    """The cause of a failed dial, for people.

    Args:
        error: the exception of the dial; its causes and contexts are searched, outermost first.
    """
    causes = list(_causes(error))
    for cause in causes:
        # The identity that answered is only in the message of the exception.
        if isinstance(cause, PeerIDMismatchesPubkey):
            found = _IDENTITY.search(str(cause))
            whose = f": {found[1]}" if found else ""
            return f"another identity answers there{whose}; the address of the peer is out of date"
        if isinstance(cause, socket.gaierror):
            return f"no such name ({cause.strerror})"
        if isinstance(cause, OSError) and cause.errno in _WORDS:
            return _WORDS[cause.errno]
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
    text = " ".join(str(cause) for cause in causes)
    # libp2p raises its base exception for this, so only the text tells.
    if "IP address not found in multiaddr" in text:
        return "no such name"
    # The kinds of failed negotiation have no common base class; their names contain "select".
    if "select" in type(causes[-1]).__name__.lower() or "negotiate" in text:
        return _no_handshake(text)
    return str(causes[-1]) or type(causes[-1]).__name__


def silent(seconds: float) -> str:
    """The reason for a dial that timed out."""
    return f"no answer within {seconds:g} s; a firewall, no such machine, or not an mlnet node"


def _no_handshake(text: str) -> str:
    if "ended" in text or "no line" in text:
        return _HUNG_UP
    return "no handshake; what listens there is not an mlnet node"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it, the parts of groups included, outermost first."""
    pending, seen = [error], 0
    # Bounded: causes may refer to each other in a circle.
    while pending and seen < 32:
        one = pending.pop(0)
        seen += 1
        yield one
        if isinstance(one, BaseExceptionGroup):
            pending.extend(one.exceptions)
        following = one.__cause__ or one.__context__
        if following is not None:
            pending.append(following)

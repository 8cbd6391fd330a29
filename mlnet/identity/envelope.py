"""Envelopes: what crosses the network, a YAML string and the signature over it.

The text itself is signed, not a value parsed from it, so two parsers cannot disagree about what was signed
(docs/adr/0004-signed-yaml-envelopes.md).
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

SIGNING_CONTEXT = b"mlnet-envelope-1\0"
"""Prefix of the signed bytes. A signature for mlnet means nothing to another protocol that uses the same key,
and
the reverse; a new format gets a new context."""


class Envelope(NamedTuple):
    """One signed message, byte for byte as its sender wrote it.

    Attributes:
        yaml: the message, one YAML mapping.
        signature: Ed25519 over :data:`SIGNING_CONTEXT` and the UTF-8 bytes of ``yaml``; 64 bytes.
    """

    yaml: str
    signature: bytes

    @property
    def size(self) -> int:
        """Bytes of the string in UTF-8.

        Raises:
            UnicodeEncodeError: it holds half of a surrogate pair.
        """
        # Nearly all envelopes are ASCII, and CPython knows that without a look at the text: no copy is made.
        return len(self.yaml) if self.yaml.isascii() else len(self.yaml.encode())

    @property
    def digest(self) -> str:
        """SHA-256 of the string, 64 lower-case hex digits: the identity of the message."""
        return hashlib.sha256(self.yaml.encode()).hexdigest()

    @property
    def signing_input(self) -> bytes:
        """The bytes that are signed."""
        return SIGNING_CONTEXT + self.yaml.encode()
